"""Time of a training step on the hippocampus: the recipe with strong.json and nnU-Net v2, each with its own plan.

    python -m venv NNUNET && NNUNET/bin/pip install torch==2.13.0 nnunetv2
    python benchmarks/training_steps.py DATA --peer NNUNET/bin/python [--steps 5] [--rounds 2]

DATA is the folder of Task04, with imagesTr and labelsTr. nnU-Net plans and preprocesses it in a temporary folder, with
its own commands. Both then run the same number of steps on the same prepared batches of seven crops of 40x56x40 (the
size that nnU-Net plans for this data), in turns and in separate processes. The preparation of samples is not counted.
Without --peer only this bundle is timed, in float32 and in bfloat16.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np
import torch

BUNDLE = Path(__file__).resolve().parent.parent / "bundle"
SIZE, BATCH = (40, 56, 40), 7


def batches(data: Path, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Normalised crops of the first cases, padded if a case is smaller."""
    names = sorted(path.name for path in (data / "imagesTr").glob("hippocampus_*.nii.gz"))
    made = []
    for first in range(count):
        pair = []
        for folder in ("imagesTr", "labelsTr"):
            stack = torch.zeros(BATCH, 1, *SIZE)
            for i in range(BATCH):
                values = np.asarray(
                    nib.load(data / folder / names[(BATCH * first + i) % len(names)]).dataobj, np.float32
                )
                if folder == "imagesTr":
                    values = (values - values.mean()) / values.std()
                part = torch.from_numpy(values)[tuple(slice(n) for n in SIZE)]
                stack[i, 0][tuple(slice(n) for n in part.shape)] = part
            pair.append(stack)
        made.append((pair[0], pair[1].round()))
    return made


def ours(data: Path, steps: int, half: bool) -> dict:
    """Seconds of each step, by the parts that the configuration names."""
    sys.path.insert(0, str(BUNDLE))
    from monai.bundle import ConfigParser

    from scripts.core.memory import keep_freed

    keep_freed()  # as every run does
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / f"{n}.json") for n in ("train", "recipe_hippocampus", "strong")])
    parser["half"] = half
    network, loss, optimizer = (parser.get_parsed_content(name) for name in ("network", "loss", "optimizer"))
    inferer = parser.get_parsed_content("train::inferer")
    seconds = []
    for x, y in batches(data, steps + 1):
        began = time.perf_counter()
        optimizer.zero_grad()
        loss(inferer(x, network), y).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds[1:], "parameters": sum(p.numel() for p in network.parameters())}


def write_raw(data: Path, raw: Path) -> None:
    """The data set as nnU-Net wants it: links to the files under its names, and `dataset.json`."""
    for folder, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (raw / folder).mkdir(parents=True, exist_ok=True)
        for file in (data / folder).glob("hippocampus_*.nii.gz"):
            link = raw / folder / (file.name.removesuffix(".nii.gz") + ending)
            link.unlink(missing_ok=True)
            link.symlink_to(file.resolve())
    about = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "anterior": 1, "posterior": 2}}
    about |= {"numTraining": len(list((raw / "labelsTr").iterdir())), "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(about))


def nnunet(data: Path, work: Path, steps: int) -> dict:
    """The same for nnU-Net's own trainer. The peer's Python runs this function."""
    raw = work / "raw" / "Dataset004_Hippocampus"
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(work / name)
    os.environ["nnUNet_compile"] = "f"
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    preprocessed = work / "preprocessed" / raw.name
    if not (preprocessed / "nnUNetPlans.json").is_file():
        write_raw(data, raw)
        extract_fingerprints([4], num_processes=1)
        plan_experiments([4])
        preprocess([4], configurations=["3d_fullres"], num_processes=[1])
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    about = json.loads((preprocessed / "dataset.json").read_text())
    trainer = nnUNetTrainer({**plans, "continue_training": False}, "3d_fullres", 0, about, device=torch.device("cpu"))
    trainer.initialize()
    seconds = []
    for x, y in batches(data, steps + 1):
        scales = trainer._get_deep_supervision_scales()
        target = [torch.nn.functional.interpolate(y, scale_factor=scale, mode="nearest") for scale in scales]
        began = time.perf_counter()
        trainer.train_step({"data": x, "target": target})
        seconds.append(time.perf_counter() - began)
    plan = plans["configurations"]["3d_fullres"]
    found = {"plan": f"batch {plan['batch_size']}, patch {plan['patch_size']}"}
    return {**found, "seconds": seconds[1:], "parameters": sum(p.numel() for p in trainer.network.parameters())}


def timed(python: str, *arguments: object, script: str = __file__) -> dict:
    """Runs a script, by default this one, in another process; its last line is the result."""
    done = subprocess.run([python, script, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr.strip()[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with imagesTr and labelsTr of the hippocampus")
    parser.add_argument("--peer", help="the Python of an environment that has nnU-Net v2")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=("float32", "bfloat16", "nnunet"), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        call = nnunet(given.data, given.work, given.steps) if given.only == "nnunet" else None
        print(json.dumps(call or ours(given.data, given.steps, given.only == "bfloat16")))
        return
    found: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as work:
        for _ in range(given.rounds):
            for kind in ("float32", "bfloat16", *(["nnunet"] if given.peer else [])):
                python = given.peer if kind == "nnunet" else sys.executable
                options = ["--only", kind, "--steps", given.steps, "--work", work]
                found.setdefault(kind, []).append(timed(python, given.data, *options))
    print(f"a step of {BATCH} crops of {SIZE}, median of {given.rounds} x {given.steps}")
    first = None
    for kind, runs in found.items():
        times = [second for run in runs for second in run["seconds"]]
        first = first or median(times)
        about = f"{runs[0]['parameters']:,} parameters" + (f", plan: {runs[0]['plan']}" if "plan" in runs[0] else "")
        print(f"{kind:<9} {median(times):>6.2f} s   {median(times) / first:.2f}   {about}")


if __name__ == "__main__":
    main()
