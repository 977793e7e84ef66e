# Cachekeep on a bare machine: `make up`, then the line that it prints. `make help` lists the rest.

PYTHON := .venv/bin/python
PYTEST_ARGS ?=
CHAOS_ARGS ?=
SOURCES := pyproject.toml scripts/install.sh

.PHONY: help up down test test-all bench chaos lint build lock

help:
	@echo 'make up         install what is locked, start Cachekeep in the background with the group "demo"'
	@echo 'make down       stop the service and every engine; the data stays'
	@echo 'make test       the tests (without the slow ones); PYTEST_ARGS="tests/unit -k settings" for some'
	@echo 'make test-all   all tests'
	@echo 'make bench      the benchmarks, as a table'
	@echo 'make chaos      failovers, scaling and upgrades under load while engines and the service are killed;'
	@echo '                CHAOS_ARGS="--seed 7 --seconds 600" for others than 120 s of a drawn seed'
	@echo 'make lint       ruff, mypy --strict, import-linter'
	@echo 'make build      wheel and sdist into dist/'
	@echo 'make lock       lock the dependencies anew'

up: .venv/.run
	@.venv/bin/cachekeep up --demo

down: .venv/.run
	@.venv/bin/cachekeep down

test: .venv/.dev
	@sh scripts/test_engines.sh
	@sh scripts/test_browser.sh
	$(PYTHON) -m pytest -n 2 --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-all: .venv/.dev
	@sh scripts/test_engines.sh
	@sh scripts/test_browser.sh
	$(PYTHON) -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

bench: .venv/.dev
	$(PYTHON) -m benchmarks

chaos: .venv/.dev
	$(PYTHON) -m tests.chaos $(CHAOS_ARGS)

lint: .venv/.dev
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

build: .venv/.run
	rm -rf dist
	$(PYTHON) -m hatchling build -d dist

lock: .venv/.run
	@command -v uv >/dev/null || .venv/bin/pip install --quiet uv
	PATH="$$PATH:$(CURDIR)/.venv/bin" sh requirements/lock.sh

# Stamps: made when the installation is whole, older than what it was made from when it is not any more.
.venv/.run: requirements/run.txt requirements/build.txt $(SOURCES)
	@sh scripts/install.sh run

.venv/.dev: requirements/dev.txt requirements/build.txt $(SOURCES)
	@sh scripts/install.sh dev
