# make demo     phantoms, training, evaluation, inference: from nothing to a segmentation
# make test     the tests            make test-slow  those that take minutes
# make lint     ruff                 make package    the zip file the model zoo wants
# make figures  the demo's table and pictures, into the documents
# make recipes  every recipe on phantoms of its kind, at a size for two cores: one table in demo/recipes
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
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

# step: what it does, how long that takes on two cores, the name of the command
define step
@printf '\n== %s (%s)\n   cd bundle && %s\n' '$(1)' '$(2)' "$$$(3)"
@began=$$(date +%s) && cd bundle && PATH="$(BIN):$$PATH" && eval "$$$(3)" && echo "== done in $$(( $$(date +%s) - began )) s"
endef

.PHONY: demo test test-slow lint package figures recipes clean
.NOTPARALLEL:

demo: demo/.trained
	$(call step,segment the patients that training has not seen,half a minute,INFER)
	$(call step,score them and write the report,half a minute,EVALUATE)
	@printf '\nDice on synthetic phantoms of patients not seen in training. Research use only.\n'
	@printf 'report:    %s/demo/run/report.html\npictures:  %s/demo/predictions/*_overlay.png\n' "$(CURDIR)" "$(CURDIR)"

demo/.phantoms: .venv/.runtime
	$(call step,make synthetic patients,half a minute,MAKE_PHANTOMS)
	@touch $@

demo/.trained: demo/.phantoms
	$(call step,train; if it was stopped it goes on where it was,5 to 7 minutes,TRAIN)
	@touch $@

test: .venv/.dev
	$(BIN)/python -m pytest --cov --cov-report=term -n auto --dist loadfile -m "not slow"

test-slow: .venv/.dev
	$(BIN)/python -m pytest -m slow

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

package: demo/.trained .venv/.dev
	$(BIN)/python .ci/package.py --weights demo/models/model.pt --patch bundle/configs/demo.json --images demo/phantoms

figures: demo
	$(BIN)/python .ci/figures.py

# Half an hour on two cores. What is trained isn't trained again, what was stopped goes on.
recipes: .venv/.runtime
	@$(BIN)/python benchmarks/recipes.py

.venv/.runtime: requirements.txt
	@printf '\n== make the environment .venv (a minute or more: it fetches PyTorch)\n'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean:
	rm -rf .venv demo dist
