# make demo       fine-tune a rendered person and print how much it improved
# make vision     install what finds faces and reads videos
# make page       a page in the browser to try it
# make test       install, lint, fast tests: about 12 minutes on two cores, without the installation
# make test-slow  the tests that take minutes
.PHONY: demo vision page test test-slow

VENV := .venv
PYTHON := $(VENV)/bin/python
# Python compiles what it imports; to compile all that comes with PyTorch would take a minute.
INSTALL := $(PYTHON) -m pip install --disable-pip-version-check --no-compile
TESTS := OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n auto --dist worksteal

demo: $(VENV)/installed
	$(PYTHON) oneshot_training.py --config configs/finetune/finetune_gazecapture.yaml --use_gazecapture \
		--person_id person_001 --num_steps 150 --mirror --vgg_loss 0 --save_dir ./outputs/demo --overwrite

vision: $(VENV)/installed-vision

page: $(VENV)/installed-page
	$(PYTHON) -m vaegaze demo_page

test: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(TESTS)

test-slow: $(VENV)/installed-dev
	$(TESTS) -m slow $$(grep -rl --include="test_*.py" "mark\.slow" tests)

$(VENV)/installed: requirements.txt
	@echo "Installing PyTorch and a dozen packages into $(VENV): about 6 GB on Linux, a few minutes"
	python3 -m venv $(VENV)
	$(INSTALL) -r requirements.txt
	touch $@

$(VENV)/installed-vision: requirements-vision.txt requirements-landmarks.txt $(VENV)/installed
	@echo "Installing what finds faces and reads videos into $(VENV) (OpenCV, PyAV, LiteRT): about 0.4 GB"
	$(INSTALL) -r requirements-vision.txt
	$(INSTALL) --no-deps -r requirements-landmarks.txt
	touch $@

$(VENV)/installed-page: requirements-page.txt $(VENV)/installed-vision
	@echo "Installing Gradio and what it needs into $(VENV), for the page in the browser: about 0.2 GB"
	$(INSTALL) -r requirements-page.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt requirements-scale.txt requirements-tensorboard.txt $(VENV)/installed-page
	@echo "Installing what the tests need into $(VENV) (pytest, ruff, Ray, diffusers, SciPy and more): about 0.8 GB"
	$(INSTALL) -r requirements-scale.txt -r requirements-tensorboard.txt -r requirements-dev.txt
	touch $@
