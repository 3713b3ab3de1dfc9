# `make run` starts the site, `make test` runs every check and test. Both need Python 3.11+, its venv module and make.

.PHONY: run test check bench faults soak
.DEFAULT_GOAL := run

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq install --require-hashes --no-deps

run: .venv/base.stamp
	@exec $(BIN)/python manage.py up

test: check
	@$(BIN)/python -m councilsite.tests.chromium
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

check: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	VAR_DIR=var/check $(BIN)/python manage.py makemigrations --check --dry-run

bench: .venv/test.stamp
	@$(BIN)/python -m bench.deliberations

faults: .venv/test.stamp
	@$(BIN)/python -m councilsite.tests.chromium
	@$(BIN)/python -m pytest faults -m '' -n 3 --dist worksteal

soak: .venv/test.stamp
	@$(BIN)/python -m faults.soak --minutes 30

# PYTHON=/path/to/python chooses one; else the first of these that is new enough and has venv.
.venv/base.stamp: requirements/base.txt
	@fits='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'; \
	for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14 python; do \
		if "$$python" -c "$$fits" 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "This needs Python 3.11 or newer with its venv module (on Debian and Ubuntu: the package python3-venv)." >&2; \
		echo "Found: $$(python3 -V 2>&1). Where another is installed, name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	echo "Installing into .venv, about a minute …"; \
	"$$found" -m venv .venv && $(PIP) -r requirements/base.txt && touch $@

.venv/test.stamp: requirements/test.txt .venv/base.stamp
	@echo "Installing the tools of the tests …"; $(PIP) -r requirements/test.txt && touch $@
