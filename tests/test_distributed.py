"""Two processes under torchrun, without a GPU, against one: same data, same numbers, no case counted twice."""

import subprocess
import sys

import pytest
from conftest import BUNDLE, TINY, run
from helpers import measured, rows

from scripts import datalist

SAME_STEPS = {"rotate_range": 0.0, "noise_std": 0.0, "flip_probability": 0.0, "dropout": 0.0, "epochs": 2}
TRAIN, EVALUATE = ["train.json"], ["train.json", "evaluate.json"]


def torchrun(run_id, files, **overrides):
    """`torchrun --nproc_per_node 2` on the shipped configurations, from the bundle's root as a user would."""
    arguments = [word for key, value in overrides.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command += ["-m", "monai.bundle", "run", run_id, "--config_file", str([f"configs/{file}" for file in files])]
    done = subprocess.run([*command, *arguments], cwd=BUNDLE, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folders(phantoms, tmp_path_factory):
    """Both ways of training and evaluating: two cases to train on, three to validate and to test."""
    root = tmp_path_factory.mktemp("distributed")
    content = datalist.make(str(phantoms), validation=0.4, test=0.4)
    for split, count in (("training", 2), ("validation", 3), ("test", 3)):
        content[split] = content[split][:count]
    datalist.write(content, root / "list.json")
    common = {**TINY, **SAME_STEPS, "dataset_dir": phantoms, "datalist": root / "list.json"}
    paths = {name: {"output_dir": root / name, "ckpt_dir": root / name} for name in ("one", "two")}
    run("train", TRAIN, batch_size=2, **common, **paths["one"])
    run("evaluate", EVALUATE, **common, **paths["one"])
    torchrun("training", [*TRAIN, "multi_gpu_train.json"], batch_size=1, **common, **paths["two"])
    torchrun("evaluating", [*EVALUATE, "multi_gpu_evaluate.json"], **common, **paths["two"])
    return root


def test_training_follows_the_same_curve(folders):
    one, two = rows(folders / "one" / "history.csv"), rows(folders / "two" / "history.csv")
    assert len(one) == len(two) == SAME_STEPS["epochs"]
    for a, b in zip(one, two):
        for key in a:
            if key != "seconds":
                assert float(a[key]) == pytest.approx(float(b[key]), abs=2e-3), key


def test_every_case_is_scored_once_and_alike(folders):
    one, two = (measured(folders / name / "metrics.csv") for name in ("one", "two"))
    assert list(one) == list(two) and len(one) == 3
    for case in one:
        assert one[case] == pytest.approx(two[case], abs=5e-3), case
