# What a user, a contributor and CI run; GNU make. Nothing is installed outside .venv, and nothing twice.
#
#   make report                     everything, about 3.6 GB of frameworks the first time
#   make report EXTRAS=torch        one framework: tensorflow, torch, jax, onnx, or several: torch,jax
#   make report SEED=7 PROFILE=smoke   other cases, fewer cases
#   make report AUDIT=no           without proof of what each means; fewer cases do without it too
#   make report PYTHON=/path/to/python3.11

EXTRAS ?= all
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
OUT := reports/latest
AUDIT := $(if $(PROFILE)$(CASES),no,yes)
WORKER_SIDE := $(addprefix conformance/hosts/,worker.py asked.py keeping.py seen.py spending.py versions.py wire.py) conformance/implementations
COMMA := ,

# The first Python that is new enough; constraints.txt is for 3.11, so that comes first.
ifndef PYTHON
PYTHON := $(shell for python in python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
endif
VERSION := $(shell $(if $(PYTHON),"$(PYTHON)" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null))

# Stamps say what .venv holds: this interpreter, and these requirements of this folder. A hash, not a date: a clone or a
# switch of branches installs nothing again.
KEY := $(shell { pwd; cat pyproject.toml constraints.txt; } | cksum | cut -d ' ' -f 1)
VENV_READY := $(VENV)/.python-$(VERSION)
RUN_READY := $(VENV)/.run-$(EXTRAS)-$(KEY)
DEV_READY := $(VENV)/.dev-$(EXTRAS)-$(KEY)
INSTALL := $(BIN)/python -m pip install --no-compile --disable-pip-version-check --retries 5 -c constraints.txt
# On every core, as pip does not, and without what only others' tests import. Some packages bring files that are not of
# this Python.
BYTECODE := $(BIN)/python -m compileall -qq -j 0 -x '/tests/' $(VENV)/lib || true

.DEFAULT_GOAL := help
.PHONY: help venv bytecode report report-gpu test check checks lint types layers spelling worker-syntax versions \
	pyz prove-pyz prove-tests prove-reference prove-gate prove-cells prove-audit prove-hunt prove-upstream prove-tolerance prove-order prove-resume prove-million prove-correct prove-blocks prove-explain prove-versions prove-peers history mutants screenshots format hooks install \
	clean

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F '|' '{ printf "%-20s %s\n", $$1, $$2 }'

report: $(RUN_READY) ## judge every implementation, write the HTML report, print its path (EXTRAS, SEED, PROFILE, CASES, AUDIT)
	@echo "Running the implementations; results go to $(OUT)/"
	@status=0; \
	$(BIN)/bnconf run --out $(OUT) $(if $(SEED),--seed $(SEED)) $(if $(PROFILE),--profile $(PROFILE)) \
		$(if $(CASES),--cases $(CASES)) || status=$$?; \
	case $$status in 0) ;; 3) echo "The run is incomplete (exit status 3); the report says what is missing." ;; \
		*) exit $$status ;; esac; \
	$(if $(filter-out no,$(AUDIT)),echo "Auditing what each means; the report shows it"; \
	$(BIN)/bnconf audit --out $(OUT)/audit.json >$(OUT)/audit.txt || echo "The audit says more: $(OUT)/audit.txt (exit status $$?)";) \
	echo "Writing the report"; \
	$(BIN)/bnconf report $(OUT) --index || exit $$?; \
	exit $$status

# After a crash the processes that are left may wait for one another for ever, so that it ends the tests:
# https://github.com/pytest-dev/pytest-xdist/issues/1378
test: $(DEV_READY) ## run the tests on two processes (EXTRAS; PYTEST_ARGS for one file or one test)
	@echo "Running the tests"
	@$(BIN)/python -m pytest -n $(JOBS) --max-worker-restart 0 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

check: $(DEV_READY) ## run the tests, and rules, types, layers, spelling and versions beside them
	@$(MAKE) --no-print-directory -j 2 test checks
	@echo "All checks passed."

checks: lint types layers spelling worker-syntax versions

lint: $(DEV_READY) ## ruff: rules and format
	@echo "Checking rules and format"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: $(DEV_READY) ## pyright, strict
	@echo "Checking types"
	@$(BIN)/pyright --project pyproject.toml --pythonpath $(BIN)/python

layers: $(DEV_READY) ## import-linter: who may import whom
	@echo "Checking layers"
	@$(BIN)/lint-imports --no-logo

spelling: $(DEV_READY) ## codespell
	@echo "Checking spelling"
	@$(BIN)/codespell

worker-syntax: $(DEV_READY) ## vermin: the worker side runs on Python 3.6
	@echo "Checking that the worker side needs no more than Python 3.6"
	@$(BIN)/vermin -q -t=3.6- --no-tips --violations $(WORKER_SIDE)

versions: $(DEV_READY) ## pyproject.toml is valid, installed versions agree with one another
	@echo "Checking pyproject.toml and the installed versions"
	@$(BIN)/validate-pyproject pyproject.toml
	@$(BIN)/python -m pip check

prove-tests: $(DEV_READY) ## the tests that `make test` leaves out: what a run and its gate show too, or once is enough
	@$(MAKE) --no-print-directory test PYTEST_ARGS="-m proof $(PYTEST_ARGS)"

prove-reference: $(DEV_READY) ## mutants and branch coverage of the reference (a quarter of an hour)
	@echo "Measuring branch coverage of reference/"
	@$(BIN)/coverage run --branch --source=reference -m pytest -q tests/reference reference
	@$(BIN)/coverage report --show-missing --fail-under=100
	@echo "Mutating reference/"
	@$(BIN)/python tests/mutants/reference_mutants.py --jobs $(JOBS)

prove-gate: $(RUN_READY) ## gate ten seeds drawn afresh (CASES; GATE_ARGS such as --seeds 3 4, -i 'torch.*')
	@echo "Gating ten seeds drawn afresh; runs go to reports/prove-gate/"
	@$(BIN)/python tests/benchmarks/prove_gate.py $(if $(CASES),--cases $(CASES)) $(GATE_ARGS)

prove-cells: $(RUN_READY) ## gate every variant of every feature, asked of everyone, whatever it compiles (hours; CELLS_ARGS such as --feature mask 'flax.*')
	@$(BIN)/python tests/benchmarks/prove_cells.py $(CELLS_ARGS)

prove-audit: $(RUN_READY) ## the audit over everything: cells proven, identify, translations
	@$(BIN)/python tests/benchmarks/prove_audit.py
	@AUDIT_SEEDS=10 $(BIN)/python -m pytest -q tests/conformance/studies/test_audit.py -m proof -k random
	@$(BIN)/python tests/benchmarks/prove_translate.py

prove-hunt: $(DEV_READY) ## hunt thirty named faults down to at most twelve elements
	@$(BIN)/python tests/benchmarks/prove_hunt.py

prove-tolerance: $(RUN_READY) ## ten pairs for allclose, a thousand fresh batches each: no alarm (a quarter of an hour)
	@$(BIN)/python tests/benchmarks/prove_tolerance.py

prove-order: $(RUN_READY) ## no answer depends on what was asked before: 300 pairs for each implementation (half an hour)
	@$(BIN)/python tests/benchmarks/prove_order.py $(ORDER_ARGS)

prove-resume: $(RUN_READY) ## kill a run ten times with SIGKILL and go on with it: the same records (some minutes; RESUME_ARGS such as --seed 3)
	@$(BIN)/python tests/benchmarks/prove_resume.py $(RESUME_ARGS)

prove-million: $(RUN_READY) ## judge 1,000,000 arrays in one run: throughput, memory and disk by tenths (half an hour; MILLION_ARGS such as --cases 800)
	@$(BIN)/python tests/benchmarks/prove_million.py $(MILLION_ARGS)

prove-upstream: $(RUN_READY) ## tell everything known as a script, run each: it must show it (half an hour; UPSTREAM_ARGS such as --all)
	@$(BIN)/python tests/benchmarks/prove_upstream.py $(UPSTREAM_ARGS)

prove-blocks: $(DEV_READY) ## ask kernels that work block by block, correct and with bugs at the edges (SEED; NAMES of kernels)
	@echo "Asking kernels with blocks of 64 to 32,768 values"
	@$(BIN)/python tests/benchmarks/prove_blocks.py $(if $(SEED),--seed $(SEED)) $(NAMES)

prove-correct: $(DEV_READY) ## ask correct ways of computing: no alarm (SEED; CORRECT_ARGS such as --seeds 3)
	@echo "Asking ways of computing; cases of alarms go to reports/prove-correct/"
	@$(BIN)/python tests/benchmarks/prove_correct.py --jobs $(JOBS) $(if $(SEED),--first $(SEED)) $(CORRECT_ARGS)

prove-explain: $(DEV_READY) ## explain forty faults: stage, change, where over all results and in an array (SEED; NAMES of faults)
	@echo "Explaining faults, asked sizes of up to 131,077 values"
	@$(BIN)/python tests/mutants/faults/explaining.py --each 2 --larger $(if $(SEED),--seed $(SEED)) $(NAMES)

prove-versions: $(RUN_READY) ## judge every family at its oldest version, two between and the newest, for conformance/versions.md (VERSIONS_ARGS such as keras; gigabytes)
	@$(BIN)/python tests/benchmarks/prove_versions.py $(VERSIONS_ARGS)

prove-peers: $(DEV_READY) ## run frameworks' own tests of batch normalization beside ours: assertions and mutants for a second (half an hour; PEERS_ARGS such as --tests FOLDER)
	@$(BIN)/python tests/benchmarks/prove_peers.py $(PEERS_ARGS)

history: $(RUN_READY) ## ask releases of every family what the corpus asks, for conformance/history.md (HISTORY_ARGS such as keras; gigabytes)
	@$(BIN)/python tests/benchmarks/history.py $(HISTORY_ARGS)

mutants: $(DEV_READY) ## the suite's own score: named faults, the fault-size curve, mutants of the frameworks (an hour)
	@echo "Putting named faults into correct implementations"
	@$(BIN)/python tests/mutants/faults/study.py --json reports/score/faults.json
	@echo "Putting mutants into the frameworks"
	@$(BIN)/python tests/mutants/framework_mutants.py --jobs $(JOBS) --json reports/score/framework_mutants.json

screenshots: $(DEV_READY) ## pictures of the last report, light and dark, wide and narrow (needs a Chromium)
	@$(BIN)/python tests/browser/screenshots.py $(OUT)

format: $(DEV_READY) ## let ruff mend and format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

# What is in the file beside bnconf: what it needs, but for NumPy, which every framework brings, for Linux on x86-64.
PYZ_HOLDS := click hypothesis sortedcontainers jinja2 markupsafe ml-dtypes msgspec packaging psutil rich markdown-it-py mdurl pygments
PYZ_PYTHONS := 3.11 3.12 3.13

report-gpu: $(RUN_READY) ## judge what runs on the GPU, and the same on the CPU: reports/gpu.tar.gz, in 8 minutes (GPU_ARGS such as --rehearse)
	@$(BIN)/bnconf gpu $(GPU_ARGS)

pyz: $(DEV_READY) ## build dist/bnconf.pyz: one file that needs Python and NumPy alone, for a machine without a network
	@echo "Building dist/bnconf.pyz for Python $(PYZ_PYTHONS)"
	@rm -rf build/pyz && mkdir -p build/pyz/site dist
	@$(BIN)/python -m hatchling build -t wheel -d build/pyz/wheels >/dev/null
	@for version in $(PYZ_PYTHONS); do \
		$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: -c constraints.txt \
			--platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 --python-version $$version \
			-d build/pyz/wheels $(PYZ_HOLDS) || exit; \
	done
	@for wheel in build/pyz/wheels/*.whl; do $(BIN)/python -m zipfile -e "$$wheel" build/pyz/site || exit; done
	@$(BIN)/shiv --site-packages build/pyz/site --console-script bnconf --extend-pythonpath --compressed \
		--python '/usr/bin/env python3' --output-file dist/bnconf.pyz >/dev/null
	@echo "dist/bnconf.pyz"

prove-pyz: pyz ## run dist/bnconf.pyz where there is nothing but Python and NumPy (BARE=/path/to/python3.12)
	@rm -rf build/bare && "$(or $(BARE),$(PYTHON))" -m venv build/bare && build/bare/bin/pip install --quiet --disable-pip-version-check numpy
	@export SHIV_ROOT=build/bare/unpacked; \
	build/bare/bin/python dist/bnconf.pyz run -i 'numpy.*' --cases 20 --out build/bare/run && \
	build/bare/bin/python dist/bnconf.pyz report build/bare/run && build/bare/bin/python dist/bnconf.pyz gate build/bare/run

hooks: $(DEV_READY) ## run the quick checks before each commit
	@$(BIN)/pre-commit install

install: $(DEV_READY) ## install everything that the other commands need, and run nothing

venv: $(VENV_READY)

bytecode: $(DEV_READY)
	@$(BYTECODE)

clean: ## remove what these commands made, .venv included; reports/latest stays
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find conformance reference tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV_READY):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is missing: install python3.11 and python3-venv" \
		"(Debian/Ubuntu: apt-get install python3 python3-venv), or name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -n "$(VERSION)" || { echo "PYTHON=$(PYTHON) does not run: name a Python 3.11 or later" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "PYTHON=$(PYTHON) is $(VERSION): name a Python 3.11 or later" >&2; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv: install python3-venv" \
		"(Debian/Ubuntu: apt-get install python3-venv)" >&2; exit 2; }
	@echo "Making $(VENV) with Python $(VERSION)"
	@"$(PYTHON)" -m venv --clear $(VENV)
	@touch $@

$(RUN_READY): | $(VENV_READY)
	@echo "Installing bnconf with: $(or $(EXTRAS),no framework)"
	@$(INSTALL) -e '.$(if $(EXTRAS),[$(EXTRAS)])'
	@$(BYTECODE)
	@rm -f $(VENV)/.run-$(EXTRAS)-* && touch $@

$(DEV_READY): | $(VENV_READY)
	@echo "Installing bnconf with: $(or $(EXTRAS),no framework), and the tools that check it"
	@$(INSTALL) -e '.[$(if $(EXTRAS),$(EXTRAS)$(COMMA))dev]'
	@$(BYTECODE)
	@rm -f $(VENV)/.run-$(EXTRAS)-* $(VENV)/.dev-$(EXTRAS)-* && touch $(RUN_READY) $@
