PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

export MLFLOW_DISABLE_TELEMETRY := true
export TZ := UTC

.DEFAULT_GOAL := help
.PHONY: help demo demo-reset test test-large fuzz check lint format type schema security bench lock graphiql sdks run-env test-env

help: ## Show what can be done here
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: run-env ## Set up, start everything on a simulated bank, train, promote, show who is at risk; stays up until Ctrl-C
	@$(BIN)/vigie demo

demo-reset: run-env ## Forget the demo's data (./.vigie)
	@$(BIN)/vigie down --quiet; rm -rf .vigie; echo "The demo's data is gone; make demo begins anew."

test: test-env ## Run all tests (real servers, free ports, random order)
	@$(BIN)/python -m pytest

sdks: ## Install the npm SDKs that tests send with (needs Node and npm); without them those tests are skipped
	@cd tests/sdks && npm install --no-save --ignore-scripts --no-fund --no-audit

test-large: test-env ## Run the long tests: OULAD, 100,000 customers, 20 kills and power cuts, a million events, a consumer stopped for 30 s
	@$(BIN)/python -m pytest -m large -n 0

fuzz: test-env ## Send 126,000 odd bodies to a running ingest, over all shapes; 20 minutes (FUZZ_EXAMPLES for each shape, twice for Segment's)
	@FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-14000} $(BIN)/python -m pytest tests/integration/test_ingest_fuzz.py --dist load

check: lint type schema security test ## What continuous integration runs: lint, types, schema, security scan, all tests

lint: test-env ## Style and import directions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

format: test-env ## Rewrite the code in the house format
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

type: test-env ## mypy, strict
	@$(BIN)/mypy

schema: test-env ## Check that docs/schema.graphql is what the gateway serves
	@$(BIN)/python -m vigie_gateway.schema --check docs/schema.graphql

security: test-env ## Static security scan of the code
	@$(BIN)/bandit -q -c pyproject.toml -r packages services gateway feature_repo

bench: run-env ## Measure: make bench NAME=ingest|fold|read|freshness
	@$(BIN)/vigie bench $(NAME)

lock: ## Compile requirements/*.in to pinned, hashed files (maintainers)
	@for name in uv run; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --no-emit-find-links requirements/$$name.in -o requirements/$$name.txt; done
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --no-emit-find-links requirements/test.in -c requirements/run.txt -o requirements/test.txt

graphiql: $(VENV)/bin/python ## Renew the vendored GraphiQL from the npm registry (maintainers)
	@$(BIN)/python gateway/renew_graphiql.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Vigie needs Python 3.11, 3.12 or 3.13; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv $(VENV)

run-env: $(VENV)/bin/python
	@$(BIN)/python requirements/install.py run

test-env: $(VENV)/bin/python
	@$(BIN)/python requirements/install.py test
