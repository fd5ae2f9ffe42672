# Every target sets up what it needs in .venv, from pyproject.toml; only Python >= 3.10 and make are required.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The tests of one file run in one process, so that its fixtures are built once.
PYTEST_FLAGS ?= -n auto --dist loadfile --max-worker-restart 0

.PHONY: demo test test-long test-pythons fuzz gpu-check lint types wheel docs clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("samvideo needs Python 3.10 or newer; this is " + sys.version.split()[0] + ": run make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev,docs]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/samvideo demo-clip demo.mp4 --overwrite
	$(BIN)/samvideo track demo.mp4 --prompt demo.prompts.json -o demo_tracked --overwrite

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

# Also the endurance runs and the largest models.
test-long: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "" --timeout 7200

# By hand: the tests on the oldest and the newest Python, where they are in PATH. Each environment takes about 8 GB.
PYTHONS ?= 3.10 3.13
test-pythons:
	@for version in $(PYTHONS); do \
	  if python$$version --version 2>/dev/null; then \
	    $(MAKE) test PYTHON=python$$version VENV=build/python$$version || exit; \
	  else echo "python$$version is not in PATH: not tested"; fi; \
	done

# Two minutes of broken inputs; `make test` tries them for 20 seconds.
fuzz: $(VENV)/installed-dev
	SAMVIDEO_FUZZ_SECONDS=120 $(BIN)/python -m pytest tests/test_fuzz.py

# Speed and agreement on a GPU, in at most four minutes; nothing where there is none.
gpu-check: $(VENV)/installed-dev
	$(BIN)/python tests/gpu_check.py -o build/gpu-check.md

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy cannot follow the mapped folders of an editable install, so it checks an installed tree.
types: $(VENV)/installed-dev
	rm -rf build/typed build/lib
	$(BIN)/python -m pip install --quiet --no-deps --target build/typed .
	cp pyproject.toml build/typed/
	cd build/typed && ../../$(BIN)/mypy -p samvideo

# The wheel is tested from another folder, in its own environment that shares only the dependencies.
wheel: $(VENV)/installed-dev
	rm -rf build/wheel build/lib
	$(BIN)/python -m build --outdir build/wheel .
	$(BIN)/twine check --strict build/wheel/*
	$(BIN)/check-wheel-contents build/wheel/*.whl
	$(BIN)/python tests/check_wheel.py build/wheel

# The documentation site, in build/site.
docs: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
