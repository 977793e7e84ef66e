"""What `cachekeep keys` does to the key file: pure changes of one content into another. Called by cli.keys."""

from __future__ import annotations

from dataclasses import replace

from cachekeep.access.key_file import MOST_KEYS, Key, KeyFile, KeyFileError, User


def add(content: KeyFile, name: str, key: Key, policy: str | None) -> KeyFile:
    """Raises KeyFileError for a name that is taken or no name."""
    if any(user.name.lower() == name.lower() for user in content.users):
        raise KeyFileError(f"there is a user {name} already; `cachekeep keys rotate {name}` gives it a new key")
    return replace(content, users=(*content.users, User(name, (key,), policy, key.created_at)))


def rotate(content: KeyFile, name: str, key: Key, until: float) -> KeyFile:
    """The user's keys are good until then at most, and the new one without an end. Raises KeyFileError while the
    rotation before this one lasts."""
    user = find(content, name)
    good = [old for old in user.keys if old.is_good(key.created_at)]
    if len(good) >= MOST_KEYS:
        ends = min(old.until for old in good if old.until is not None)
        raise KeyFileError(
            f"{name} has two good keys until {ends:.0f} (seconds since 1970); end the older one with "
            f"`cachekeep keys remove {name} --key {good[0].id}`"
        )
    kept = tuple(replace(old, until=until) for old in good if until > key.created_at)
    return _with(content, replace(user, keys=(*kept, key)))


def retire_root(content: KeyFile, old: Key) -> KeyFile:
    """old: the first-start key that was, with its end. Those that have ended are forgotten."""
    kept = tuple(key for key in content.former_root if key.is_good(old.created_at) and key.id != old.id)
    return replace(content, former_root=(*kept, old))


def remove(content: KeyFile, name: str, key_id: str | None) -> KeyFile:
    """The user with all of its keys, or one key of it. Raises KeyFileError."""
    user = find(content, name)
    if key_id is None:
        return replace(content, users=tuple(one for one in content.users if one is not user))
    kept = tuple(key for key in user.keys if key.id != key_id)
    if len(kept) == len(user.keys):
        raise KeyFileError(f"{name} has no key {key_id[:60]!r}")
    if not kept:
        raise KeyFileError(f"{key_id} is the only key of {name}: `cachekeep keys remove {name}` removes both")
    return _with(content, replace(user, keys=kept))


def set_policy(content: KeyFile, name: str, policy: str | None) -> KeyFile:
    """Raises KeyFileError."""
    return _with(content, replace(find(content, name), policy=policy))


def find(content: KeyFile, name: str) -> User:
    """Raises KeyFileError."""
    for user in content.users:
        if user.name == name:
            return user
    have = ", ".join(user.name for user in content.users)
    raise KeyFileError(f"there is no user {name[:64]!r}" + (f"; there are {have}" if have else ""))


def _with(content: KeyFile, changed: User) -> KeyFile:
    return replace(content, users=tuple(changed if user.name == changed.name else user for user in content.users))
