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
from pathlib import Path
from statistics import median

import common
import torch
from results import leave, rows_of_other_sets
from trainings import DEMO

EDGES = 2  # convolutions at the beginning and at the end that stay in float32


def ways(model) -> dict[str, dict]:
    """What differs from `Quantisation.quantised`, by way."""
    import nncf

    names = [node.get_friendly_name() for node in model.get_ordered_ops() if "Convolution" in node.get_type_name()]
    edges = {"ignored_scope": nncf.IgnoredScope(names=[*names[:EDGES], *names[-EDGES:]])}
    return {
        "int8": {"preset": nncf.QuantizationPreset.PERFORMANCE},
        "int8, both signs": {},
        "int8, edges in float32": edges,
        "int8, edges in float32, bias corrected": edges | {"fast_bias_correction": False},
    }


def measure(given: argparse.Namespace) -> list[dict]:
    from scripts.inference.openvino import compiled, convert

    about = json.loads(given.datalist.read_text())
    made = common.workflow(
        ["train", "evaluate", given.patch, "quantise"], dataset_dir=about["dataset_dir"],
        class_names=about["class_names"], datalist=str(given.datalist.resolve()),
        output_dir=str(given.output / "run"), ckpt_dir=str(given.models), quantised_on=given.calibrate_on,
        **{"quantisation::scored::data": f"$(@data['validation'] + @data['test'])[:{given.scored}]"},
    )  # fmt: skip
    made.parser.get_parsed_content("weights")
    tried = made.parser.get_parsed_content("quantisation")
    tried.network.eval()
    with torch.no_grad():
        windows = tried.windows()
    model = convert(tried.network, windows[0])
    models = {"float32": model} | {
        name: tried.quantised(model, windows, **options) for name, options in ways(model).items()
    }
    rows: list[dict] = []
    for name, one in models.items():
        dice, times = tried.dice([compiled(one)], time.process_time)
        rows.append({"set": given.name, "way": name, "cases": len(times), "dice": dice, "seconds": median(times)})
        print(rows[-1])
    return [row | judged(row, rows[0]) | {"processors": [common.processor()]} for row in rows]


def judged(row: dict, first: dict) -> dict:
    """What a way has lost of Dice against the first one, and how many times as fast it is."""
    falls = {name: first["dice"][name] - value for name, value in row["dice"].items()}
    mean = sum(falls.values()) / len(falls)
    return {"falls": falls, "fall": mean, "factor": first["seconds"] / row["seconds"]}


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
    parser.add_argument("patch", type=common.recipe, help="as recipe_hippocampus")
    parser.add_argument("models", type=common.present, help="folder of the weights")
    parser.add_argument("datalist", type=common.present, help="datalist.json of the training")
    parser.add_argument("--calibrate_on", type=int, default=16, help="training cases")
    parser.add_argument("--scored", type=int, default=26, help="validation and test cases")
    parser.add_argument("--output", type=Path, default=DEMO / "int8")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.output = given.output.resolve()
    given.output.mkdir(parents=True, exist_ok=True)
    kept = rows_of_other_sets(given.output / "int8.json", given.name, common.processor())
    rows = kept + measure(given)
    leave(rows, f"{table(rows)}\n\nResearch use only.\n", given.output / "int8")


if __name__ == "__main__":
    main()
