# make run    set up, build the best run from the embedded data within minutes, evaluate it
# make demo   set up, the service too, and watch it for a while: a run is served, items come in;
#             RUN=NAME of another run; nothing of it is kept
# make test   set up, the service too, then lint, type check, audit the embedded data and test
# make pareto DATA=items.csv TRANSFER="more.csv data/gold.csv"
#             every approach, whole and compressed, by precision, time and size; hours, and resumable
# make reproduce ARGS="--list"   every figure of benchmarks/RESULTS.md again, old beside new; resumable
# make mutants   whether tests notice small changes of the statistics; an hour or two
# make test WORKERS=8   so many tests at a time
# make notebooks  execute them on real runs, and store them with what they show
# make setup | lint | types | audit | docs | notebook | clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= first-run
WORKERS ?= 2
DATA ?= data/gold.csv
TRANSFER ?=
TORCH := $(shell sed -n '/^torch==/p' requirements.txt)
.PHONY: setup run demo test lint types audit docs notebook notebooks pareto reproduce mutants clean
.DELETE_ON_ERROR:

setup: $(VENV)/.installed

# The marker is written last: an interrupted installation is taken up again. Where the index answers
# `torch` with a CUDA build, gigabytes of it, uv asks PyTorch's own index for the build of this
# machine: without a GPU, the CPU's.
$(VENV)/.installed: requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --dry-run --report $(VENV)/torch.json $(TORCH)
	! grep -q '"name": "nvidia-' $(VENV)/torch.json || { \
		$(BIN)/python -m pip install --quiet uv==0.13.8 && \
		$(BIN)/uv pip install --python $(BIN)/python --torch-backend auto --no-deps $(TORCH); } || \
		echo "$(TORCH): the index's own build, with CUDA, is installed"
	$(BIN)/python -m pip install --quiet -r requirements.txt -c constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

run: setup
	$(BIN)/tagger build --data data/gold.csv --tags data/tags.yaml --name $(RUN) \
		--promise 0.95 --budget 5min build.folds=null data.extra=[data/contrasts.csv]
	$(BIN)/python evaluate.py run=$(RUN)

# Until Ctrl-C; whatever run there is, else one that is trained in seconds.
demo: $(VENV)/.service
	$(BIN)/python -m tagger.demo --run $(RUN)

$(VENV)/.service: requirements-service.txt constraints.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -r requirements-service.txt -c constraints.txt
	touch $@

# Tests try the service, trackers and a cluster too; without what these need they would be skipped.
$(VENV)/.service-test: requirements-service-test.txt requirements-track.txt requirements-ray.txt \
		$(VENV)/.service
	$(BIN)/python -m pip install --quiet -r requirements-service-test.txt -r requirements-track.txt \
		-r requirements-ray.txt -c constraints.txt
	touch $@

# The site of docs/, which a test builds too.
$(VENV)/.docs: requirements-docs.txt constraints.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -r requirements-docs.txt -c constraints.txt
	touch $@

test: lint types audit $(VENV)/.service-test $(VENV)/.docs
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations 10

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

audit: setup
	$(BIN)/tagger audit --data data/gold.csv --tags data/tags.yaml \
		--fail-on schema,repeats,conflicts,absent-tags --fail-on 'label-errors>0.01,thin-slices>10'

# What is generated goes into docs/, the site into site/, which no other program is needed to read.
docs: $(VENV)/.docs
	$(BIN)/python -m tagger.reporting.schemas
	$(BIN)/python docs/reference.py
	$(BIN)/python docs/canvas.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo site/index.html

pareto: setup
	$(BIN)/python benchmarks/pareto.py --data $(DATA) $(addprefix --transfer ,$(TRANSFER))

reproduce: setup
	$(BIN)/python benchmarks/reproduce.py $(ARGS)

mutants: setup
	$(BIN)/python -m pip install --quiet -r requirements-mutants.txt
	OMP_NUM_THREADS=1 nice $(BIN)/mutmut run --max-children $(WORKERS)
	$(BIN)/mutmut results

notebook: setup
	$(BIN)/python -m pip install --quiet jupyterlab
	$(BIN)/jupyter lab notebooks

# Makes the runs that they read, once, below benchmarks/out/notebooks: an hour. Then seconds.
notebooks: $(VENV)/.service
	$(BIN)/python notebooks/execute.py

clean:
	rm -rf $(VENV) mutants .mypy_cache .ruff_cache .pytest_cache
