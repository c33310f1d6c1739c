"""Other ways to make a label map of the hippocampus from the scores of a network, without training.

    python benchmarks/hippocampus_decisions.py [--folds DIR] [--output DIR]

The networks are those of the folds that hippocampus.py has trained; every case is scored by the network that has not
seen it. Differences are taken case by case, and their intervals are bootstraps over cases. The table is left in the
output folder as hippocampus_decisions.md and hippocampus_decisions.json.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import common
import numpy as np
import torch
from hippocampus import CLASSES, RECIPE
from monai.bundle import ConfigParser
from monai.transforms import Compose
from results import leave
from trainings import DEMO

FOLDS = ("fold0", "fold1", "fold2", "fold3")
SHIFTS = [(step * (axis == 0), step * (axis == 1), step * (axis == 2)) for axis in range(3) for step in (-1, 1)]
SCALES = (0.3, 0.6)
CUT = 2  # slices; no hippocampus of these crops begins as near to the rim


def largest(scores: torch.Tensor) -> torch.Tensor:
    return scores.argmax(0)


def plane(scores: torch.Tensor) -> torch.Tensor:
    """Front and back are parted by the coronal plane that agrees best with the scores of the whole organ."""
    organ, names = scores.argmax(0) > 0, scores.log_softmax(0)
    gain = ((names[1] - names[2]) * organ).sum((0, 2))  # of a slice, if it belongs to the front
    behind = torch.cat([torch.zeros(1), gain.cumsum(0)])
    first = int((behind[-1] - 2 * behind).argmax())
    front = torch.arange(scores.shape[2])[None, :, None] >= first
    return torch.where(organ, torch.where(front, 1, 2), 0)


def smaller(by: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """A voxel belongs to a class only if its score is so much larger than that of the background."""
    return lambda scores: torch.cat([scores[:1] + by, scores[1:]]).argmax(0)


WAYS: dict[str, tuple[str, Callable]] = {
    "as it is": ("plain", largest),
    "front and back parted by a plane": ("plain", plane),
    "averaged over shifts by a voxel, six of them": ("shifted", largest),
    f"{CUT} slices of the crop cut off at the back": ("cut", largest),
    **{f"the background's score raised by {by}": ("plain", smaller(by)) for by in SCALES},
}


def scores(folder: Path) -> Iterator[tuple[str, dict[str, torch.Tensor], torch.Tensor]]:
    """The cases of a fold: name, scores (class, ...), and the truth on the same voxels."""
    parser = ConfigParser()
    parser.read_config([str(common.BUNDLE / "configs" / f"{name}.json") for name in ("train", *RECIPE)])
    chain = Compose(parser.get_parsed_content("deterministic_chain"))
    inferer, network = (parser.get_parsed_content(name) for name in ("plain_inferer", "network_def"))
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    network.eval()
    listed = json.loads((folder / "datalist.json").read_text())
    for entry in listed["validation"]:
        made = chain({key: os.path.join(listed["dataset_dir"], entry[key]) for key in ("image", "label")})
        image = made["image"].as_tensor()[None]
        with torch.no_grad():
            plain = inferer(image, network)[0]
            views = [torch.roll(image, by, (2, 3, 4)) for by in SHIFTS]
            back = [tuple(-step for step in by) for by in SHIFTS]
            moved = [inferer(view, network)[0].roll(by, (1, 2, 3)) for view, by in zip(views, back, strict=True)]
            cut = image.clone()
            cut[..., : int(image.abs().sum((0, 1, 2, 4)).nonzero()[0]) + CUT, :] = 0  # as what is around the crop
            shorter = inferer(cut, network)[0]
        both = torch.stack([plain, *moved]).softmax(1).mean(0)
        yield entry["patient"], {"plain": plain, "shifted": both, "cut": shorter}, made["label"].as_tensor()[0]


def dice(found: torch.Tensor, truth: torch.Tensor) -> list[float]:
    """Dice of each class."""
    sizes = [((found == c).sum() + (truth == c).sum()).item() for c in (1, 2)]
    return [2 * ((found == c) & (truth == c)).sum().item() / size for c, size in zip((1, 2), sizes, strict=True)]


def measure(folders: list[Path]) -> list[dict]:
    """The rows of the table."""
    from scripts.report.summary import intervals

    cases: dict[str, list[list[float]]] = {what: [] for what in WAYS}
    for folder in folders:
        for _, given, truth in scores(folder):
            for what, (kind, decide) in WAYS.items():
                cases[what].append(dice(decide(given[kind]), truth))
    base, rows = np.array(cases["as it is"]).mean(1), []
    for what, found in cases.items():
        values = np.array(found)
        row = {"what": what, "cases": len(values), "dice": dict(zip(CLASSES, values.mean(0).tolist(), strict=True))}
        if what != "as it is":
            apart = values.mean(1) - base
            row["difference"] = {"mean": apart.mean(), "ci": intervals(apart[:, None, None], range(len(apart)))[0][0]}
        rows.append(row)
    return rows


def table(rows: list[dict]) -> str:
    """The results in Markdown: that of the steps of the training."""
    import strong_steps

    return strong_steps.table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=Path, default=DEMO / "hippocampus", help="the output folder of hippocampus.py")
    parser.add_argument("--output", type=Path, default=DEMO / "hippocampus")
    given = parser.parse_args()
    folders = [given.folds.resolve() / fold for fold in FOLDS]
    if missing := [folder for folder in folders if not (folder / "trained.json").is_file()]:
        sys.exit(f"{missing[0]}: not trained yet; expected the folds of hippocampus.py")
    rows = measure(folders)
    leave(rows, table(rows) + "\n", given.output / "hippocampus_decisions")


if __name__ == "__main__":
    main()
