"""Cachekeep: the ElastiCache you own."""


def __getattr__(name: str) -> str:
    """`__version__`, looked up when somebody wants to know: processes that live for one order begin sooner without."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cachekeep")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"
