"""Networks in whole numbers of eight bits (int8): what OpenVINO and NNCF gain in time, and what it costs in Dice.

    python benchmarks/int8.py NAME PATCH MODELS DATALIST [--calibrate_on 16] [--scored 26] [--output DIR]

MODELS is a folder of trained weights, PATCH the patch of their recipe, DATALIST the list of its cases. The network is
quantised with images of its training cases, and scored on validation and test cases, which give no range. `both signs`
is what configs/quantise.json does, `edges in float32` leaves the first and the last layers as they are, `bias
corrected` estimates the shift of each layer anew, layer by layer. Dice is that of the labels at the network's size. One
thread; what counts is the processor time of the network. It needs openvino and nncf. The table is left in demo/int8 as
int8.md and int8.json.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import common
import numpy as np
import torch
from hippocampus import leave, rows_of_other_sets
from monai.metrics import DiceMetric
from monai.networks import one_hot
from recipes import DEMO

EDGES = 2  # convolutions at the beginning and at the end that stay in float32
FALLS = 0.005, 0.01  # of mean Dice, and of any class, that would be allowed


def ways(model, examples: list[np.ndarray]) -> dict[str, Callable[[], object]]:
    """Makes the network in each way."""
    import nncf

    names = [node.get_friendly_name() for node in model.get_ordered_ops() if "Convolution" in node.get_type_name()]
    edges = nncf.IgnoredScope(names=[*names[:EDGES], *names[-EDGES:]])

    def quantised(**options):
        return lambda: nncf.quantize(model.clone(), nncf.Dataset(examples), subset_size=len(examples), **options)

    mixed = nncf.QuantizationPreset.MIXED
    return {
        "float32": lambda: model,
        "int8": quantised(),
        "int8, both signs": quantised(preset=mixed),
        "int8, edges in float32": quantised(preset=mixed, ignored_scope=edges),
        "int8, edges in float32, bias corrected": quantised(
            preset=mixed, ignored_scope=edges, fast_bias_correction=False
        ),
    }


def measure(given: argparse.Namespace) -> list[dict]:
    from scripts.inference.openvino import compiled, convert

    about = json.loads(given.datalist.read_text())
    made = common.workflow(
        ["train", given.patch], dataset_dir=about["dataset_dir"], class_names=about["class_names"],
        datalist=str(given.datalist.resolve()), output_dir=str(given.output / "run"), ckpt_dir=str(given.models),
    )  # fmt: skip
    get = made.parser.get_parsed_content
    chain, listed, inferer = get("validate::preprocessing"), get("data"), get("plain_inferer")
    network, classes = get("network_def").eval(), get("class_names")
    network.load_state_dict(torch.load(given.models / "model.pt", map_location="cpu", weights_only=True))
    scored = [chain(dict(case)) for case in (*listed["validation"], *listed["test"])[: given.scored]]
    windows: list[torch.Tensor] = []

    def keep(x: torch.Tensor) -> torch.Tensor:
        windows.append(x)
        return network(x)

    with torch.no_grad():
        for case in listed["training"][: given.calibrate_on]:
            inferer(chain(dict(case))["image"].as_tensor()[None], keep)
    examples = [window.numpy()[:1] for window in windows]
    model = convert(network, torch.from_numpy(examples[0]))
    rows: list[dict] = []
    for name, make in ways(model, examples).items():
        run = compiled(make())
        metric, times = DiceMetric(include_background=False, reduction="mean_batch"), []
        for item in scored:
            used = [0.0]

            def compute(x: torch.Tensor, used=used, run=run) -> torch.Tensor:
                began = time.process_time()
                out = np.concatenate([run(part.numpy())[0] for part in x.split(1)])
                used[0] += time.process_time() - began
                return torch.from_numpy(out)

            labels = inferer(item["image"].as_tensor()[None], compute).argmax(1, keepdim=True)
            metric(one_hot(labels, len(classes)), one_hot(item["label"].as_tensor()[None], len(classes)))
            times.append(used[0])
        dice = dict(zip(classes[1:], metric.aggregate().tolist()))
        rows.append({"set": given.name, "way": name, "cases": len(scored), "dice": dice, "seconds": median(times)})
        print(rows[-1])
    return [row | judged(row, rows[0]) | {"processors": [common.processor()]} for row in rows]


def judged(row: dict, first: dict) -> dict:
    """What a way has lost of Dice against the first one, and how many times as fast it is."""
    falls = {name: first["dice"][name] - value for name, value in row["dice"].items()}
    mean = sum(falls.values()) / len(falls)
    return {
        "falls": falls, "fall": mean, "factor": first["seconds"] / row["seconds"],
        "good": mean <= FALLS[0] and max(falls.values()) <= FALLS[1],
    }  # fmt: skip


def table(rows: list[dict]) -> str:
    lines = [
        "| weights | network | cases | mean Dice | less than in float32 | largest fall of a class | times as fast "
        "| processor |",
        "|---|---|---:|---:|---:|---|---:|---|",
    ]
    for row in rows:
        worst = max(row["falls"], key=lambda name: row["falls"][name])
        mean = sum(row["dice"].values()) / len(row["dice"])
        lines.append(
            f"| {row['set']} | {row['way']} | {row['cases']} | {mean:.4f} | {row['fall']:.4f} "
            f"| {worst} {row['falls'][worst]:.4f} | {row['factor']:.2f} | {row['processors'][0]} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the weights, for the table")
    parser.add_argument("patch", help="as recipe_hippocampus")
    parser.add_argument("models", type=Path)
    parser.add_argument("datalist", type=Path)
    parser.add_argument("--calibrate_on", type=int, default=16, help="training cases")
    parser.add_argument("--scored", type=int, default=26, help="validation and test cases")
    parser.add_argument("--output", type=Path, default=DEMO / "int8")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.output = given.output.resolve()
    given.output.mkdir(parents=True, exist_ok=True)
    rows = rows_of_other_sets(given.output / "int8.json", given.name) + measure(given)
    leave(rows, f"{table(rows)}\n\nResearch use only.\n", given.output / "int8")


if __name__ == "__main__":
    main()
