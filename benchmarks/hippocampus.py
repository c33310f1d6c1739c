"""Hippocampus of the Medical Segmentation Decathlon (Task04): trains folds and the shipped model, and scores them.

    python benchmarks/hippocampus.py DATA [--parts fold0 final second ...] [--minutes 150] [--set NAME=VALUE ...]

DATA holds imagesTr/, labelsTr/ and folds.json, which names the cases that each fold is scored on. Every part has the
recipe's number of epochs and keeps the last: its own cases choose nothing, they are looked at for the curve alone.
`final` and `second`, of the next seed, train on all cases, and have none to be scored on; their weights are left
together, in half precision, as models/hippocampus.json and the files that it lists: those of bundle/models. What was
stopped, or is out of its minutes, goes on when the same command is given again; what is trained isn't trained again.
On a GPU the same commands run there, in bf16 where it has that. The table is left beside the parts as hippocampus.md
and hippocampus.json.
"""

import argparse
import csv
import json
import sys
import time
from pathlib import Path

import common  # noqa: F401 - puts the bundle on the path
from recipes import DEMO, execute

SHIPPED = {"final": 0, "second": 1}  # trained on all cases; what is added to the seed
PARTS = ("fold0", *SHIPPED, "fold1", "fold2", "fold3")
CLASSES = ("anterior", "posterior")
PUBLISHED = {  # case-mean Dice of other systems on the same folds, trained on 208 cases where these have 156
    "nnU-Net 3D, mean of five folds": (0.8975, 0.8807),
    "MONAI DynUNet, mean of five folds": (0.8983, 0.8816),
}
RECIPE = ["recipe_hippocampus"]
SCORED = {"run": {}, "single": {"mirror_axes": "[]"}}  # folder of the report, overrides of the evaluation


def reports(part: str) -> dict:
    """Those of SCORED that a part has: none where no case is left to score."""
    return {} if part in SHIPPED else SCORED


def datalist(data: Path, part: str) -> dict:
    """Who trains in a part; the cases of its fold are under `validation`."""
    folds = json.loads((data / "folds.json").read_text())
    names = sorted(path.name.removesuffix(".nii.gz") for path in (data / "imagesTr").glob("hippocampus_*.nii.gz"))
    if missing := sorted({name for fold in folds.values() for name in fold} - set(names)):
        sys.exit(f"{data / 'imagesTr'}: {len(missing)} cases of folds.json are not there, the first is {missing[0]}")
    scored = set(folds[part]) if part in folds else set()
    entries = {
        name: {"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz", "patient": name}
        for name in names
    }
    return {
        "description": "Hippocampus of the Medical Segmentation Decathlon (Task04, CC-BY-SA 4.0), "
        + (f"{len(names) - len(scored)} cases, all but {part}" if scored else f"all {len(names)} cases"),
        "dataset_dir": str(data.resolve()),
        "class_names": ["background", *CLASSES],
        "training": [entries[name] for name in names if name not in scored],
        "validation": [entries[name] for name in names if name in scored],
        "test": [],
    }


def command(what: str, files: list[str | Path], folder: Path, out: str, options: dict, *more: str) -> str:
    """As one would type it in bundle/; files are configurations by name, or any others by path."""
    listed = ",".join(f"'{file}'" if isinstance(file, Path) else f"'configs/{file}.json'" for file in files)
    paths = f"--datalist {folder}/datalist.json --output_dir {folder}/{out} --ckpt_dir {folder}/models"
    given = [f'--{name} "{value}"' for name, value in options.items()]
    return " ".join([f'python -m monai.bundle run {what} --config_file "[{listed}]"', paths, *given, *more])


def work(part: str, given: argparse.Namespace, deadline: float) -> bool:
    """Trains a part, or goes on with it, and scores it; returns whether it is whole."""
    folder = given.output / part
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "datalist.json").write_text(json.dumps(datalist(given.data, part), indent=1) + "\n")
    shared = {"dataset_dir": given.data.resolve(), "seed": given.seed + SHIPPED.get(part, 0)}
    training = shared | {"keep_last": True, "val_interval": 5} | given.options
    train = command("training", ["train", *RECIPE, "strong"], folder, "run", training, "--resume True")
    noted = train.replace(str(folder), part).replace(str(given.data.resolve()), "DATA")
    if not train_once(folder, part, train, noted, deadline):
        return False
    shapes = {name: value for name, value in given.options.items() if name in ("features", "levels", "network_def")}
    for out, changed in reports(part).items():
        options = shared | shapes | changed
        evaluate = command("evaluating", ["train", "evaluate", *RECIPE], folder, out, options, "--split validation")
        if not (folder / out / "metrics.json").is_file() and not execute(f"{part}: score", evaluate, deadline):
            return False
    return True


def train_once(folder: Path, title: str, train: str, noted: str, deadline: float) -> bool:
    """Trains in a folder, unless that is done; returns whether it is. Refuses what another command has trained.

    Args:
        folder: receives `trained.json`, which says by which command.
        title: of the training, for the reader of the output.
        train: the command.
        noted: the command as it is kept and compared.
        deadline: a time of time.monotonic().
    """
    done, settings = folder / "trained.json", {"command": noted}
    if done.is_file() and json.loads(done.read_text()) != settings:
        sys.exit(f"{folder}: trained by another command ({json.loads(done.read_text())['command']}); move it away")
    if not done.is_file():
        if not execute(f"{title}: train", train, deadline):
            return False
        folder.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps(settings) + "\n")
    return True


def duration(run: Path) -> dict:
    """Epochs and seconds that a training took."""
    with (run / "history.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    return {"epochs": len(epochs), "seconds": round(sum(float(epoch["seconds"]) for epoch in epochs))}


def outcome(part: str, folder: Path) -> dict:
    """What the files of a part say of it."""
    row = {"part": part, **json.loads((folder / "trained.json").read_text()), **duration(folder / "run")}
    if found := {out: json.loads((folder / out / "metrics.json").read_text()) for out in reports(part)}:
        about = dict(found["run"]["about"])
        row |= {"cases": found["run"]["foreground"]["n"], "device": about["Device"], "versions": about["Versions"]}
        row["dice"] = {
            out: {
                name: {"mean": values["measures"]["Dice"]["mean"], "ci": values["measures"]["Dice"]["ci"]}
                for name, values in metrics["classes"].items()
            }
            for out, metrics in found.items()
        }
    return row


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = ["| | cases | anterior Dice | posterior Dice | epochs | training |", "|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        cost = f"{row['epochs']} | {row['seconds'] / 60:.0f} min"
        if "dice" not in row:
            lines.append(f"| {row['part']}, all cases | - | - | - | {cost} |")
        for out, dice in row.get("dice", {}).items():
            shown = " | ".join(f"{d['mean']:.4f} ({d['ci'][0]:.3f} to {d['ci'][1]:.3f})" for d in dice.values())
            name = f"{row['part']}, without mirror images" if out == "single" else row["part"]
            lines.append(f"| {name} | {row['cases']} | {shown} | {cost} |")
    scored = [row["dice"] for row in rows if "dice" in row]
    for out in SCORED if len(scored) > 1 else ():
        means = " | ".join(f"{sum(d[out][name]['mean'] for d in scored) / len(scored):.4f}" for name in CLASSES)
        lines.append(
            f"| mean of {len(scored)} folds{', without mirror images' if out == 'single' else ''} | | {means} | | |"
        )
    for name, (front, back) in PUBLISHED.items():
        lines.append(f"| {name}, as published | | {front} | {back} | | |")
    return "\n".join(lines)


def leave(rows: list[dict], text: str, file: Path) -> None:
    """Writes results as NAME.json and NAME.md, and shows them."""
    file.with_suffix(".json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    file.with_suffix(".md").write_text(text)
    print(f"\n{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with imagesTr, labelsTr and folds.json")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=150, help="that this call may take; 150 by default")
    parser.add_argument("--output", type=Path, default=DEMO / "hippocampus")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="overrides of the training")
    given = parser.parse_args()
    given.options = dict(word.split("=", 1) for word in given.set)
    given.output = given.output.resolve()
    deadline = time.monotonic() + 60 * given.minutes
    whole = all(time.monotonic() < deadline and work(part, given, deadline) for part in given.parts)
    rows = [
        outcome(part, given.output / part)
        for part in PARTS
        if (given.output / part / "trained.json").is_file()
        and all((given.output / part / out / "metrics.json").is_file() for out in reports(part))
    ]
    if SHIPPED.keys() <= {row["part"] for row in rows}:
        from scripts.inference.ensemble import join

        weights = given.output / "models"
        join([given.output / part / "models" / "model.pt" for part in SHIPPED], weights / "hippocampus.json")
    text = table(rows) + "\n\nMean Dice of the cases, its 95 % interval. Research use only.\n"
    leave(rows, text, given.output / "hippocampus")
    sys.exit(not whole)


if __name__ == "__main__":
    main()
