# make run ARGS="--port 9000 --upstream ollama" EXTRAS=code
.DEFAULT_GOAL := help
.PHONY: help run setup install test sdks check bench crash clean

help: ## this list
	@grep -E '^[a-z].*: .*## ' Makefile | sed -e 's/:.*## /\t/' | expand -t 20

run: ## set up and start the server (ARGS: flags of `rethread serve`; EXTRAS: code, s3, embeddings)
	@EXTRAS="$(EXTRAS)" scripts/run $(ARGS)

setup: ## everything for working on rethread, in .venv
	@scripts/setup dev

install: ## the server alone, in .venv
	@EXTRAS="$(EXTRAS)" scripts/setup core

test: ## set up and run the whole test suite (ARGS: arguments of pytest)
	@scripts/test $(ARGS)

sdks: ## the older SDKs that the suite tests when they are there
	@scripts/setup-sdks
	@scripts/setup-node

check: ## everything: style, types, imports, tests
	@scripts/check

bench: ## the benchmarks (ARGS: names of some)
	@scripts/bench $(ARGS)

crash: ## kill servers and databases under load (ARGS: --rounds, --runs, --seed, --scenario)
	@scripts/crash $(ARGS)

clean: ## remove what setup and the tests made; your data stays
	rm -rf .venv tests/sdk/node/*/node_modules dist build
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .schemathesis
	find src tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +
