# make demo          play a construction project on a real broker and database (KEEP=1: leave them up)
# make test          the whole test suite
# make drills        break it on purpose under load, and judge (RUNS=30: long; ONLY=zombie SEED=7;
#                    PLANTED=all: errors that must be caught)
# make lint          style, types, layers
# make bench         measure it beside its peers (FULL=1: all of it, and the figures in docs)
# make install       the environment in .venv, exactly as locked (the others do it first)
# make lock          resolve the dependencies anew (UPGRADE=1: to their newest versions)
# make secrets       secrets for docker-compose.yml, those that are not there yet
# make clean         remove what these made, except secrets and a kept demo's data

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:
.PHONY: demo test drills lint bench install lock secrets clean

# A distribution's Python is compiled with profile and link-time optimisation, a self-built one
# mostly is not, and takes a seventh more CPU.
PYTHON ?= $(shell for python in /usr/bin/python3.11 python3.11 python3; do \
	"$$python" -c 'import ensurepip' 2>/dev/null && command -v "$$python" && break; done)
BIN := .venv/bin
INSTALLED := .venv/.installed
PEERS := .bench-venv/.installed
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" \
	$(if $(filter 1,$(UPGRADE)),--upgrade)

demo: $(INSTALLED)
	$(BIN)/realname demo $(if $(filter 1,$(KEEP)),--keep)

test: $(INSTALLED)
	$(BIN)/pytest

drills: $(INSTALLED)
	$(BIN)/python -m drills $(if $(RUNS),--runs $(RUNS)) $(if $(SEED),--seed $(SEED)) \
		$(addprefix --only ,$(ONLY)) $(addprefix --planted ,$(PLANTED))

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Short: under 5 minutes. FULL=1: all of it, 70 to 95 minutes on two cores.
bench: $(INSTALLED) $(PEERS)
	$(BIN)/python -m bench run $(if $(filter 1,$(FULL)),--full --docs docs)

install: $(INSTALLED)

$(INSTALLED): requirements-dev.lock pyproject.toml
	"$(PYTHON)" -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes \
		--only-binary :all: --requirement requirements-dev.lock
	# The build backend is in the lock too, so nothing comes from outside of it.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--editable .
	touch $@

# Beside .venv: what is measured against us has pins of its own.
$(PEERS): bench/peers/requirements.lock
	"$(PYTHON)" -m venv .bench-venv
	.bench-venv/bin/pip install --quiet --disable-pip-version-check --require-hashes \
		--only-binary :all: --requirement $<
	touch $@

lock: $(INSTALLED)
	$(COMPILE) pyproject.toml --output-file requirements.lock
	$(COMPILE) pyproject.toml --extra dev --output-file requirements-dev.lock
	echo hatchling | $(COMPILE) - --output-file requirements-build.lock
	$(COMPILE) bench/peers/requirements.in --output-file bench/peers/requirements.lock
	$(BIN)/python -m local.artifacts
	$(BIN)/python -m bench lock

# Each is made once: a lost person_secret or code key cannot be made again. The directory keeps
# others of this machine out; the files are readable because in the containers, whose users are
# not this machine's, each file stands alone.
secrets:
	umask 022
	mkdir -p -m 700 secrets
	random() { "$(PYTHON)" -c 'import secrets; print(secrets.token_hex(32))'; }
	cd secrets
	[ -s person_secret ] || random > person_secret
	[ -s code_keys ] || echo "1:$$(random)" > code_keys
	[ -s postgres_password ] || random > postgres_password
	[ -s database ] || \
		echo "postgresql://realname:$$(cat postgres_password)@postgres:5432/realname" > database

clean:
	rm -rf .venv .bench-venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
