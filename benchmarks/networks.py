"""Networks and losses of the recipes compared on one task: parameters, operations, time, Dice.

    python benchmarks/networks.py [--steps 150] [--size 64] [--seed 0] [NAME ...]

The task is to segment synthetic hearts of 64x64 pixels in four classes: 160 for training, 54 others for the scores.
Every network trains for the same number of steps on the same batches with the same schedule (alexnet_fcn has a lower
learning rate). So the table compares short trainings, not long ones. The name of a loss runs
it with `unet_32`. Each row is saved in demo/networks.json, so an interrupted run can continue; `--table` prints the
rows as they are in the document.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from common import BUNDLE
from monai.bundle import ConfigParser
from torch.utils.flop_counter import FlopCounterMode

ROOT = BUNDLE.parent
KEPT = ROOT / "demo" / "networks.json"
RATE, BATCH, TRAINING = 0.004, 4, 160
OWN_RATE = {"alexnet_fcn": 0.0001}  # without normalisation, the others' finds nothing
NETWORKS = ["unet_32", "residual_unet_32", "resnext_unet", "feature_pyramid", "cardiac_unet", "cardiac_unet_2"]
NETWORKS += ["segnet", "alexnet_fcn", "small_fcn", "residual_attention_unet"]
LOSSES = ["batch_dice", "iou", "sampled_bce"]
PUBLISHED = {  # mean validation Dice that its authors gave, on their own data
    "unet_32": "0.911",
    "residual_unet_32": "0.904",
    "resnext_unet": "0.911",
    "feature_pyramid": "0.898",
    "cardiac_unet_2": "0.860",
    "segnet": "0.80",
    "alexnet_fcn": "0.45",
    "small_fcn": "0.73",
    "residual_attention_unet": "0.798",
    "batch_dice": "0.911",
    "iou": "0.911",
    "sampled_bce": "0.906",
}


def hearts(size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures and label maps of all phantoms, in order."""
    from scripts.data.layouts import find_pairs
    from scripts.data.slices import read_slices
    from scripts.phantoms import generate

    with tempfile.TemporaryDirectory() as folder:
        generate.generate(folder, layout="cardiac_png", patients=267, scans=1, size=(size, size), seed=seed)
        pairs = [entry for entry in find_pairs(folder) if "label" in entry]
        images, labels = (
            np.stack([read_slices(Path(folder) / entry[key])[0][..., 0] for entry in pairs])
            for key in ("image", "label")
        )
    x = torch.from_numpy(images).float()[:, None]
    x = (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)
    return x, torch.from_numpy(labels.astype(np.int64))[:, None]


def build(name: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Network and loss; the names are those of configs/networks.json and configs/losses.json."""
    config = {"spatial_dims": 2, "in_channels": 1, "out_channels": 4, "features": 16, "dropout": 0.0, "ce_weight": 1.0}
    config["encoder_weights"] = None
    network, loss = ("unet_32", name) if name in LOSSES else (name, "dice_ce")
    config["network"] = f"%{BUNDLE}/configs/networks.json::{network}"
    config["loss"] = f"%{BUNDLE}/configs/losses.json::{loss}"
    parser = ConfigParser(config)
    return parser.get_parsed_content("network"), parser.get_parsed_content("loss")


def dice(network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Mean over pictures and over the classes that are in each picture."""
    with torch.no_grad():
        found = torch.cat([network(part).argmax(1, keepdim=True) for part in x.split(BATCH)])
    scores = []
    for k in (1, 2, 3):
        both, either = ((found == k) & (y == k)).sum((1, 2, 3)), ((found == k).sum((1, 2, 3)) + (y == k).sum((1, 2, 3)))
        scores.append(torch.where((y == k).any(3).any(2).any(1), 2 * both / either, torch.nan))
    return float(torch.stack(scores).nanmean())


def row(name: str, x: torch.Tensor, y: torch.Tensor, steps: int, seed: int) -> dict:
    torch.manual_seed(seed)
    network, loss = build(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(x[:1])
    batches = torch.Generator().manual_seed(seed)
    rate = OWN_RATE.get(name, RATE)
    optimizer = torch.optim.Adam(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    seconds = []
    network.train()
    for _ in range(steps):
        chosen = torch.randint(TRAINING, (BATCH,), generator=batches)
        began = time.perf_counter()
        optimizer.zero_grad()
        loss(network(x[chosen]), y[chosen]).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
        schedule.step()
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "gflops": counter.get_total_flops() / 1e9,
        "seconds": median(seconds),
        "dice": dice(network.eval(), x[TRAINING:], y[TRAINING:]),
    }


def table(rows: dict[str, dict]) -> str:
    """The table in Markdown, as it is in the document."""
    lines = ["| name | parameters | GFLOP a picture | s a step | Dice here | Dice its authors gave |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for name in [*NETWORKS, *LOSSES]:
        if name in rows:
            found = rows[name]
            shown = f"`unet_32`, loss `{name}`" if name in LOSSES else f"`{name}`"
            lines.append(
                f"| {shown} | {found['parameters']:,} | {found['gflops']:.2f} | {found['seconds']:.2f} | "
                f"{found['dice']:.3f} | {PUBLISHED.get(name, '-')} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        default=[*NETWORKS, *LOSSES],
        help=f"of {', '.join([*NETWORKS, *LOSSES])}; by default all",
    )
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kept", type=Path, default=KEPT, help="where rows are kept; by default demo/networks.json")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in (*NETWORKS, *LOSSES)]:
        parser.error(f"{unknown[0]}: expected one of {', '.join([*NETWORKS, *LOSSES])}")
    task = {"steps": given.steps, "size": given.size, "seed": given.seed}
    kept = json.loads(given.kept.read_text()) if given.kept.is_file() else {}
    rows = kept["rows"] if kept.get("task") == task else {}
    if not given.table:
        x, y = hearts(given.size, given.seed)
        for name in given.names:
            if name not in rows:
                rows[name] = row(name, x, y, given.steps, given.seed)
                print(name, rows[name], flush=True)
                given.kept.parent.mkdir(exist_ok=True)
                given.kept.write_text(json.dumps({"task": task, "rows": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
