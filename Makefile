# The commands of developers and CI. A target builds or starts what it needs.
# usage: make test T="services/ledger -k hold"   a part of the tests, without coverage
#        make logs P=ledger-worker F=1           one process, until interrupted

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

BIN := .venv/bin
STACK := python3 deploy/local/stack.py
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links -q

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## The virtual environment .venv from the locks
	@deploy/local/setup.sh

.PHONY: demo
demo: setup ## The main journey on real input, from nothing; leaves the stack running
	@$(STACK) up
	@$(BIN)/demo .run/env -- $(STACK)

.PHONY: up
up: setup ## Servers and every process of the product, until all are ready
	@$(STACK) up

.PHONY: down
down: ## Stop everything that `make up` started
	@$(STACK) down

.PHONY: status
status: ## What runs
	@$(STACK) status

.PHONY: logs
logs: ## The last lines of every process, or of one: P=ledger-worker; F=1 follows
	@$(STACK) logs $(P) $(if $(F),--follow)

.PHONY: migrate
migrate: setup ## Bring the schemas of the running stack to the version of the code
	@set -a; . .run/env; set +a; for service in services/*/; do $(BIN)/$$(basename $$service) migrate; done

.PHONY: psql
psql: ## The running stack's database, as administrator
	@. .run/env; psql "$$DATABASE_URL"

.PHONY: fmt
fmt: setup ## Format the code and repair what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: lint
lint: setup ## Format, style, import rules, and the checks of tools/
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports
	@$(BIN)/python tools/rooms.py
	@$(BIN)/python tools/transactions.py
	@$(BIN)/python tools/imports.py
	@$(BIN)/python tools/contracts_compat.py
	@$(BIN)/python tools/asyncapi.py
	@$(BIN)/python tools/settings_doc.py
	@$(BIN)/python tools/compose_check.py
	@$(BIN)/python tools/service_lists.py
	@$(BIN)/python tools/flows.py
	@$(BIN)/python tools/rules.py

.PHONY: types
types: setup ## Types, strictly
	@$(BIN)/mypy .

.PHONY: check
check: lint types ## Every check that does not run the product

.PHONY: test
test: setup ## All tests on real servers, with coverage; T="..." for a part, without it
	@deploy/local/test.sh $(T)

.PHONY: e2e
e2e: setup ## The journeys over a whole stack
	@deploy/local/test.sh tests/e2e

.PHONY: check-long
check-long: setup ## The state machine tests with a new seed and five times the examples; SEED=n repeats one
	@seed=$(or $(SEED),$$RANDOM); echo "SEED=$$seed"; \
	KOPILKA_STATE_SEED=$$seed deploy/local/test.sh -m state_machine --timeout=3600

.PHONY: fuzz
fuzz: setup ## Changed requests, messages, webhooks and command lines for SECONDS=600; SEED=n repeats, ROUNDS=n and T="..." bound
	@seed=$(or $(SEED),$$RANDOM); echo "SEED=$$seed"; \
	KOPILKA_FUZZ_SEED=$$seed KOPILKA_FUZZ_SECONDS=$(or $(SECONDS),600) KOPILKA_FUZZ_ROUNDS=$(or $(ROUNDS),1000) \
	deploy/local/test.sh $(or $(T),tests/fuzz) --timeout=7200

.PHONY: ci
ci: check test ## What CI runs

.PHONY: bench
bench: setup ## Measure every claim of bench/ and write bench/RESULTS.md; leaves the stack running
	@$(STACK) down --keep-servers
	@python3 deploy/local/servers.py up
	@set -a; eval "$$(python3 deploy/local/servers.py env)"; set +a; \
	for claim in ledger_posting ledger_profile ledger_intake ledger_mixed ledger_footprint ledger_history ledger_verify relay consumers http_edge webhooks settling; do $(BIN)/python bench/$$claim.py --write; done; \
	$(STACK) up; $(BIN)/python bench/end_to_end.py --write

.PHONY: events
events: setup ## Write the schemas of all messages anew from the code
	@$(BIN)/python tools/contracts_compat.py --write

.PHONY: asyncapi
asyncapi: setup ## Build the AsyncAPI documents of all services into .run/asyncapi
	@$(BIN)/python tools/asyncapi.py

.PHONY: docs
docs: setup ## Write the pages of settings and of rules anew from the code
	@$(BIN)/python tools/settings_doc.py --write
	@$(BIN)/python tools/rules.py --write

.PHONY: lock
lock: setup ## Resolve requirements*.in anew into the locks
	@$(COMPILE) requirements.in -o requirements.lock
	@$(COMPILE) requirements-dev.in -o requirements-dev.lock
