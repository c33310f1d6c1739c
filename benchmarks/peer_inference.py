"""One image from file to file on one core: this bundle, the order of steps of a zoo bundle, and nnU-Net's predict.

    python3.11 -m venv NNUNET && NNUNET/bin/pip install torch==2.13.0 nnunetv2==2.8.1
    python benchmarks/peer_inference.py --peer NNUNET/bin/python [--size 256 256 128] [--repeats 3]

The image is a phantom. nnU-Net plans for it with its own planner (3d_fullres), and predicts with the network of its
plan, at random weights; the other rows have the bundle's network, briefly trained, as inference.py has. What is
compared is time. Nobody averages over mirror images. They run in turns, each time in a new process that is bound to one
core with one thread. The first turn, in which fast.json chooses, doesn't count; nnU-Net has one turn, as it takes
minutes. The seconds are those of the processor, from loading the weights to the last file, without the imports. Labels
are compared in the foreground of either. The operations are those of the network's convolutions and matrix products for
the whole image, over all its windows, a multiplication and an addition counted as two. The table is left in
demo/peer_inference as peer_inference.md and peer_inference.json.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

DATASET = "Dataset004_Pelvis"
MODEL = "nnUNetTrainer__nnUNetPlans__3d_fullres"
CASE = "case"
SHIPPED = "inference as shipped"


def write_raw(raw: Path, image: Path, label: Path, classes: list[str]) -> None:
    """The phantom as a data set of nnU-Net."""
    for folder, name, file in (("imagesTr", f"{CASE}_0000", image), ("labelsTr", CASE, label)):
        (raw / folder).mkdir(parents=True)
        (raw / folder / f"{name}.nii.gz").symlink_to(file.resolve())
    about = {"channel_names": {"0": "MRI"}, "labels": {name: number for number, name in enumerate(classes)}}
    (raw / "dataset.json").write_text(json.dumps(about | {"numTraining": 1, "file_ending": ".nii.gz"}))


def operations(network: torch.nn.Module, size: list[int]) -> int:
    """Of one window."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 1, *size))
    return counter.get_total_flops()


def plan_peer(work: Path) -> dict:
    """Lets nnU-Net plan, and writes random weights of the planned network. The peer's Python runs this function."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    extract_fingerprints([4], num_processes=1)
    plan_experiments([4])
    preprocess([4], configurations=["3d_fullres"], num_processes=[1])  # its trainer wants the prepared image
    found = work / "preprocessed" / DATASET
    plans, about = (json.loads((found / f"{name}.json").read_text()) for name in ("nnUNetPlans", "dataset"))
    trainer = nnUNetTrainer({**plans, "continue_training": False}, "3d_fullres", 0, about, device=torch.device("cpu"))
    trainer.initialize()
    folder = work / "results" / DATASET / MODEL
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(str(folder / "fold_0" / "checkpoint_final.pth"))
    for name, content in (("plans", plans), ("dataset", about)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    plan = plans["configurations"]["3d_fullres"]
    fingerprint = json.loads((found / "dataset_fingerprint.json").read_text())
    order = plans["transpose_forward"]  # from the axes of the file to those of the plan
    counts, sizes = ([fingerprint[key][0][axis] for axis in order] for key in ("shapes_after_crop", "spacings"))
    shape = [round(count * old / new) for count, old, new in zip(counts, sizes, plan["spacing"])]
    patch = plan["patch_size"]
    shape = [max(pair) for pair in zip(shape, patch)]
    steps = compute_steps_for_sliding_window(shape, patch, 0.5)
    windows = len(steps[0]) * len(steps[1]) * len(steps[2])
    return {"what": f"{windows} windows of {patch}", "operations": windows * operations(trainer.network, patch)}


def used_seconds() -> float:
    """Of the processor, by this process and those it has waited for."""
    kinds = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in kinds)


def predict_peer(work: Path) -> dict:
    """Predicts with nnU-Net as it is, without mirror images. The peer's Python runs this function."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    began = used_seconds()
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), perform_everything_on_device=False)
    predictor.initialize_from_trained_model_folder(str(work / "results" / DATASET / MODEL), (0,))
    made = work / "predictions" / f"{CASE}.nii.gz"
    made.unlink(missing_ok=True)
    image = work / "raw" / DATASET / "imagesTr" / f"{CASE}_0000.nii.gz"
    predictor.predict_from_files(
        [[str(image)]], [str(made.parent / CASE)], num_processes_preprocessing=1, num_processes_segmentation_export=1
    )
    seconds = used_seconds() - began
    if not made.is_file():
        sys.exit(f"{made}: nnU-Net has not written it")
    return {"seconds": seconds}


def ask_peer(python: str, call: str, work: Path) -> dict:
    """Runs one of the two functions above in nnU-Net's environment, on one core."""
    from training_steps import timed

    os.environ |= {f"nnUNet_{name}": str(work / name) for name in ("raw", "preprocessed", "results")}
    os.environ |= {"nnUNet_def_n_proc": "1", "nnUNet_compile": "f", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return timed(python, "--only", call, "--work", work, script=__file__)


def measure(given: argparse.Namespace, work: Path) -> list[dict]:
    import common
    import inference

    from scripts.networks.improved_unet import ImprovedUNet
    from scripts.phantoms import generate

    generate.generate(work / "data", patients=1, scans=1, size=tuple(given.size), seed=1)
    files = [next((work / "data").glob(f"semantic_{part}/*.nii.gz")) for part in ("MRs_anon", "labels_anon")]
    inference.train_briefly(work / "models")
    own = {"what": f"one of {inference.SIZE}", "operations": operations(ImprovedUNet(), inference.SIZE)}
    rows = {
        "the zoo's order of steps": own | {"call": (inference.zoo,)},
        SHIPPED: own | {"call": (inference.shipped,)},
        "with `configs/fast.json`": own | {"call": (inference.shipped, ["fast.json"])},
    }
    if given.peer:
        write_raw(work / "raw" / DATASET, *files, list(generate.CLASSES))
        rows["nnU-Net 2.8.1 predict"] = ask_peer(given.peer, "plan", work)
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    places = {name: work / name.replace("/", "_") for name, row in rows.items() if "call" in row}
    for repeat in range(given.repeats + 1):
        for name, row in rows.items():
            if "call" in row:
                call, *options = row["call"]
                out = places[name] / str(repeat)
                seconds[name].append(inference.alone(call, work / "data", work / "models", out, *options)[1])
            elif repeat == given.repeats:  # once, as it takes minutes
                seconds[name].append(ask_peer(given.peer, "predict", work)["seconds"])
    seconds = {name: taken[-given.repeats :] for name, taken in seconds.items()}
    first = median(seconds[SHIPPED])
    same = {name: inference.agreement(place / "0", places[SHIPPED] / "0") for name, place in places.items()}
    return [
        {
            "same": same.get(name),
            "name": name, "what": row["what"], "operations": row["operations"], "seconds": seconds[name],
            "factor": median(seconds[name]) / first, "processors": [common.processor()],
        }
        for name, row in rows.items()
    ]  # fmt: skip


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = [
        "| what | the network sees | 10^12 operations | s an image | times the shipped one | same labels | processor |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        same = "" if row["same"] is None else f"{100 * row['same']:.2f} %"
        shown = f"{median(row['seconds']):.1f} ({min(row['seconds']):.1f} to {max(row['seconds']):.1f})"
        lines.append(
            f"| {row['name']} | {row['what']} | {row['operations'] / 1e12:.2f} | {shown} | {row['factor']:.2f} "
            f"| {same} | {row['processors'][0]} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="the Python of an environment that has nnU-Net v2; else without its row")
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 128], help="of the image on disk")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", choices=("plan", "predict"), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        torch.set_num_threads(1)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(json.dumps((plan_peer if given.only == "plan" else predict_peer)(given.work)))
        return
    from results import leave
    from trainings import DEMO

    given.output = given.output or DEMO / "peer_inference"
    given.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        rows = measure(given, Path(work))
    leave(rows, f"{table(rows)}\n\nResearch use only.\n", given.output / "peer_inference")


if __name__ == "__main__":
    main()
