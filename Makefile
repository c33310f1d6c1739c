# `make` alone lists the targets: each says in one line, behind ##, what it is for.
PYTHON ?= python3
# The environment that everything runs in; another folder for another Python: make test PYTHON=python3.12 VENV=.venv-3.12
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
.DEFAULT_GOAL := help
# Waiting threads sleep: on a shared machine spinning ones can slow a step down twentyfold.
export OMP_WAIT_POLICY ?= PASSIVE

# What the demo runs, as one would type it in bundle/.
export MAKE_PHANTOMS = python -m scripts.phantom --output_dir ../demo/phantoms --patients 30 --scans 2 --size "(64,64,32)" --seed 0
export TRAIN = python -m monai.bundle run training --config_file "['configs/train.json','configs/demo.json']" \
    --dataset_dir ../demo/phantoms --output_dir ../demo/run --ckpt_dir ../demo/models --resume True
export EVALUATE = python -m monai.bundle run evaluating \
    --config_file "['configs/train.json','configs/evaluate.json','configs/demo.json']" \
    --dataset_dir ../demo/phantoms --output_dir ../demo/run --ckpt_dir ../demo/models
export INFER = python -m monai.bundle run inference --config_file "['configs/inference.json','configs/demo.json']" \
    --dataset_dir ../demo/run/datalist.json --output_dir ../demo/predictions --ckpt_dir ../demo/models

export MAKE_DICOM = python -m scripts.phantom --output_dir ../demo/dicom --layout dicom --patients 1 --first_patient 7 --seed 0
export CONTOUR = python -m monai.bundle run inference --config_file "['configs/inference.json','configs/demo.json']" \
    --dataset_dir ../demo/dicom/imagesTr --output_dir ../demo/contours --ckpt_dir ../demo/models \
    --output_formats "['nifti','dicom_seg','rtstruct']"

# step: what it does, how long that takes on two cores, the name of the command
define step
@printf '\n== %s (%s)\n   cd bundle && %s\n' '$(1)' '$(2)' "$$$(3)"
@began=$$(date +%s) && cd bundle && PATH="$(BIN):$$PATH" && eval "$$$(3)" && echo "== done in $$(( $$(date +%s) - began )) s"
endef

.PHONY: help demo test test-programs test-slow coverage lint hooks docs package publish figures recipes clean clean-venv clean-results
.NOTPARALLEL:

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: demo/.trained  ## phantoms, training, inference, evaluation: from nothing to a report, 7 to 12 minutes on two cores
	$(call step,segment the patients that training has not seen,half a minute,INFER)
	$(call step,score them and write the report,half a minute,EVALUATE)
	$(call step,write two scans of one of these patients as DICOM,a few seconds,MAKE_DICOM)
	$(call step,segment them once more from DICOM: contours for a planning system,a quarter of a minute,CONTOUR)
	@printf '\nDice on synthetic phantoms of patients not seen in training. Research use only.\n'
	@printf 'report:    %s/demo/run/report.html\npictures:  %s/demo/predictions/*_overlay.png\n' "$(CURDIR)" "$(CURDIR)"
	@printf 'contours:  %s/demo/contours/*_rtstruct.dcm, research use only\n' "$(CURDIR)"

demo/.phantoms: $(VENV)/.runtime
	$(call step,make synthetic patients,half a minute,MAKE_PHANTOMS)
	@touch $@

demo/.trained: demo/.phantoms
	$(call step,train; if it was stopped it goes on where it was,5 to 10 minutes,TRAIN)
	@touch $@

test: $(VENV)/.dev  ## the tests, less those of whole programs and those that take minutes
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not programs"

test-programs: $(VENV)/.dev  ## whole programs and trainings: killed, resumed, in several processes, published
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "programs and not slow"

test-slow: $(VENV)/.dev  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

coverage: $(VENV)/.dev  ## the tests again, with a table of the lines that they do not reach
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered -n auto --dist loadfile --no-loadscope-reorder -m "not slow"

lint: $(VENV)/.dev  ## ruff (mistakes and format) and mypy (types)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

hooks: $(VENV)/.dev  ## checks before every commit, by pre-commit; in a clone of the repository only
	$(BIN)/pre-commit install

docs: $(VENV)/.docs  ## the documentation site, in site/
	$(BIN)/mkdocs build --strict

package: demo/.trained $(VENV)/.dev  ## the zip file that the model zoo wants, in dist/, tried as the zoo tries it
	$(BIN)/python .ci/package.py --weights demo/models/model.pt --patch bundle/configs/demo.json --images demo/phantoms

publish: $(VENV)/.dev  ## that zip file onto the Hugging Face Hub: HF_TOKEN=... make publish REPO=OWNER/NAME
	@$(BIN)/python -W ignore .ci/publish.py --repo "$(REPO)"

figures: demo  ## the demo's table and pictures, into the documents
	$(BIN)/python .ci/figures.py

# What is trained isn't trained again, what was stopped goes on.
recipes: $(VENV)/.runtime  ## every recipe on phantoms of its kind, one table in demo/recipes: half an hour on two cores
	@$(BIN)/python benchmarks/recipes.py

$(VENV)/.runtime: requirements.txt requirements-dicom.txt
	@printf '\n== make the environment %s (a minute or more: it fetches PyTorch)\n' "$(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dicom.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(VENV)/.docs: $(VENV)/.runtime requirements-docs.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@touch $@

clean:  ## delete caches and the documentation site; results and the environment stay
	rm -rf site .coverage .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find .ci benchmarks bundle tests -name __pycache__ -type d -prune -exec rm -rf {} +

clean-venv:  ## delete the environment; the next target makes it anew
	rm -rf $(VENV)

clean-results:  ## delete demo/ and dist/, trained models and reports among them: hours of work
	rm -rf demo dist
