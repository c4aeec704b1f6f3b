# Everything a developer does here. `make` alone lists it.
# ARGS go to the program that is run: make test ARGS="-k lease -x". Tests run in WORKERS processes, each with servers of its
# own; for --pdb: make test WORKERS=0.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MINUTES ?= 30
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: simulate docs lock release-check help demo test check format bench bench-check compare chaos chaos-ticks chaos-cron mutate mutate-core clean redis etcd chromium faketime

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## see it work, and survive a kill: two nodes on an embedded store, within half a minute
	@$(BIN)/duly demo $(ARGS)

test: $(STAMP) redis etcd chromium ## run the whole test suite, with real servers, from a fresh clone on; but for release-check
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --ignore=tests/release $(ARGS)

check: $(STAMP) ## format, lint, types, architecture, and the tests that need no server
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py
	$(BIN)/python -m pytest -q -m "not server and not slow" $(ARGS)

format: $(STAMP) ## put the code in order
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

bench: $(STAMP) redis ## measure the throughput of this machine
	$(BIN)/python benchmarks/throughput.py $(ARGS)

bench-check: $(STAMP) redis ## count the instructions of a job and a push, and compare them with the recorded ones
	@tools/ensure-program valgrind
	$(BIN)/python benchmarks/instructions.py --check $(ARGS)

compare: $(STAMP) redis ## duly beside ten peers, each in an environment of its own; over an hour: ARGS="--peers duly saq"
	$(BIN)/python benchmarks/compare $(ARGS)

SEEDS ?= 1000
simulate: $(STAMP) redis ## whole clusters in virtual time, SEEDS of them, a tenth as many on sqlite and on redis
	$(BIN)/python -m duly.testing.simulate --seeds $(SEEDS) $(ARGS)
	$(BIN)/python -m duly.testing.simulate --seeds $$(($(SEEDS) / 10)) --store sqlite $(ARGS)
	$(BIN)/python -m duly.testing.simulate --seeds $$(($(SEEDS) / 10)) --store redis $(ARGS)

chaos: $(STAMP) redis faketime ## real processes under kill -9, SIGSTOP, a Redis that restarts, cut networks: MINUTES=30
	$(BIN)/python -m tests.chaos.run --minutes $(MINUTES) $(ARGS)
	$(BIN)/python -m tests.chaos.run --minutes $(MINUTES)/3 --store sqlite $(ARGS)
	for store in clock sentinel cluster servers; do \
		$(BIN)/python -m tests.chaos.run --minutes $(MINUTES)/6 --store $$store $(ARGS) || exit 1; done

chaos-ticks: $(STAMP) redis ## ten nodes, killed and restarted, carry fifty schedules: each tick fires once
	$(BIN)/python -m tests.chaos.ticks --store redis $(ARGS)
	$(BIN)/python -m tests.chaos.ticks --store sqlite $(ARGS)

SECONDS ?= 180
chaos-cron: $(STAMP) redis etcd ## cron on one of five nodes, which are killed, stopped, cut off, restarted: each tick runs once
	for driver in redis redis-zset etcd; do \
		$(BIN)/python -m tests.chaos.cron --driver $$driver --seconds $(SECONDS) $(ARGS) || exit 1; done

mutate: $(STAMP) redis ## change the scripts and SQL of the stores in each small way; every change is to be found or explained
	$(BIN)/python -m tests.mutation.run $(ARGS)

mutate-core: $(STAMP) ## change src/duly/core in thousands of ways and print those no test notices: ARGS="duly.core.retry*"
	rm -rf mutants # what it remembers of an earlier run would hide what new tests find
	$(BIN)/mutmut run $(ARGS)
	@$(BIN)/mutmut results | sed -n -E 's/^ *(.*): (survived|no tests|suspicious)$$/\1/p' | xargs -r -n 1 $(BIN)/mutmut show

docs: $(STAMP) ## build the documentation site into site/; a warning is a failure
	$(BIN)/python -m tools.reference
	$(BIN)/python -m tools.site

lock: $(STAMP) ## write requirements-dev.lock: what this environment has of what development needs
	$(BIN)/python -m tools.lock

release-check: $(STAMP) ## build wheel and sdist, and try them as a new user would, on every Python from 3.11 on that is here
	PYTHONS=all $(BIN)/python -m pytest -q tests/release $(ARGS)

clean: ## remove everything that was made here
	rm -rf $(VENV) .peers build dist site mutants htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

redis:
	@tools/ensure-program redis-server

etcd:
	@tools/ensure-program etcd etcd-server

chromium:
	@tools/ensure-program chromium

faketime: # with it comes libfaketime, which makes the clocks of the nodes wrong
	@tools/ensure-program faketime

# uv is several times faster, but reads none of pip's configuration (a mirror, a proxy): if it fails, pip decides.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "duly needs Python 3.11 or newer, but $(PYTHON) is not: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@if command -v uv >/dev/null && uv pip install --quiet --python $(BIN)/python -e '.[all,dev,docs]'; then :; else \
		echo "$(BIN)/python -m pip install -e '.[all,dev,docs]'"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all,dev,docs]'; fi
	@touch $@
