# Every target sets up what it needs in .venv, from pyproject.toml; only Python >= 3.10 and make are required.
PYTHON ?= python3
BIN := .venv/bin
# The tests of one file run in one process, so that its fixtures are built once.
PYTEST_FLAGS ?= -n auto --dist loadfile

.PHONY: demo test test-long fuzz gpu-check lint types wheel docs clean

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("samvideo needs Python 3.10 or newer; this is " + sys.version.split()[0] + ": run make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev,docs]'
	touch $@

demo: .venv/installed
	$(BIN)/samvideo demo-clip demo.mp4 --overwrite
	$(BIN)/samvideo track demo.mp4 --prompt demo.prompts.json -o demo_tracked --overwrite

test: .venv/installed-dev
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

# Also the endurance runs and the largest models.
test-long: .venv/installed-dev
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "" --timeout 7200

# Two minutes of broken inputs; `make test` tries them for 20 seconds.
fuzz: .venv/installed-dev
	SAMVIDEO_FUZZ_SECONDS=120 $(BIN)/python -m pytest tests/test_fuzz.py

# Speed and agreement on a GPU, in at most four minutes; nothing where there is none.
gpu-check: .venv/installed-dev
	$(BIN)/python tests/gpu_check.py -o build/gpu-check.md

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy cannot follow the mapped folders of an editable install, so it checks an installed tree.
types: .venv/installed-dev
	rm -rf build/typed build/lib
	$(BIN)/python -m pip install --quiet --no-deps --target build/typed .
	cp pyproject.toml build/typed/
	cd build/typed && ../../$(BIN)/mypy -p samvideo

# The wheel is tested from another folder, in its own environment that shares only the dependencies.
wheel: .venv/installed-dev
	rm -rf build/wheel build/lib
	$(BIN)/python -m build --outdir build/wheel .
	$(BIN)/python tests/check_wheel.py build/wheel

# The documentation site, in build/site.
docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
