# ovseg: `make demo` runs the whole chain on the embedded world, `make test` tests it.
# Needs plain python3 >= 3.11 with pip; uv and everything else are installed into .venv.

PYTHON ?= python3
# Another build of torch, by uv's name: TORCH_BACKEND=auto, cpu, cu130, ... Its hashes are not in the
# lock, so no hash is compared; without it every file's hash must match.
TORCH_BACKEND ?=
# Number of test processes, each computing on one core.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1

.PHONY: help install demo test test-all fuzz interrupts fidelity lint style bench pools lock clean

help:
	@echo "make demo      the full pipeline on the embedded storybook world (CPU)"
	@echo "make test      the fast tests; make test-all adds the slow ones"
	@echo "make fuzz      10,000 new inputs for each reader of untrusted files"
	@echo "make interrupts  interrupt a small run at eight moments in five ways; an hour"
	@echo "make fidelity  compare with the official implementation, rewrite docs/fidelity.md"
	@echo "make lint      ruff and mypy; make style lets ruff rewrite"
	@echo "make bench     timings, printed as ratios within one run; into docs/performance/"
	@echo "make pools     the work pools of prefect.yaml on the Prefect server at PREFECT_API_URL"
	@echo "make clean     remove the environment, caches and demo output"

install: $(STAMP)

# Bytecode is compiled here, once: where Python may not write it, every command would compile the
# thousands of modules it imports.

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/uv || { $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "ovseg needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 2; }; \
		$(PYTHON) -m venv $(VENV) && sed -n '/^uv==/,/# via/p' requirements.lock > $(VENV)/uv.txt \
		&& $(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement $(VENV)/uv.txt; }
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --compile-bytecode \
		--requirements requirements.lock \
		$(if $(TORCH_BACKEND),--no-verify-hashes --torch-backend $(TORCH_BACKEND),--require-hashes)
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --no-deps --editable .
	@$(BIN)/python -m compileall -q ovseg tasks flows
	@touch $@

demo: $(STAMP)
	$(BIN)/ovseg run --preset storybook

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile

# Those that time how fast something ends have the machine to themselves.
test-all: test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not alone" -n $(WORKERS) --dist loadfile
	$(BIN)/python -m pytest -m "slow and alone"

# Other inputs each time; add an input that fails, which is printed, to the test's seeds.
FUZZ_CASES ?= 10000
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 OVSEG_FUZZ_CASES=$(FUZZ_CASES) $(BIN)/python -m pytest tests/fuzz -n $(WORKERS)

# Prints the seconds of each interrupt; make test-all runs one per moment.
interrupts: $(STAMP)
	OVSEG_INTERRUPTS=all $(BIN)/python -m pytest -s tests/flows/test_interrupts_on_a_terminal.py

# Needs OVSEG_REFERENCE_DATA, the folder with recordings of the official implementation.
fidelity: $(STAMP)
	$(BIN)/python -m pytest -m golden --fidelity=docs/fidelity.md

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

style: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m bench --json docs/performance/bench.json --plot docs/performance/bench.png

# An existing pool keeps its settings and its queue.
pools: | $(BIN)/prefect
	$(BIN)/prefect work-pool inspect ovseg-cpu > /dev/null 2>&1 \
		|| $(BIN)/prefect work-pool create ovseg-cpu --type process
	$(BIN)/prefect work-pool inspect ovseg-gpu > /dev/null 2>&1 \
		|| { $(BIN)/prefect work-pool create ovseg-gpu --type process \
		&& $(BIN)/prefect work-pool set-concurrency-limit ovseg-gpu 1; }

$(BIN)/prefect:
	@echo "$@ is missing: run make install first" && exit 2

lock:
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra s3 \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--output-file requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info runs/storybook
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
