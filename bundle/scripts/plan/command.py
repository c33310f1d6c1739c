"""The command `python -m scripts.plan`: looks at a data set, and writes settings that fit it."""

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from scripts.check.dataset import check_listed
from scripts.core.errors import UserError
from scripts.core.files import rename_previous
from scripts.data.datalist import choose_fold, make_datalist, read_datalist
from scripts.data.layouts import find_pairs
from scripts.plan.chains import shipped
from scripts.plan.choices import make_plan
from scripts.plan.fingerprint import Split, fingerprint
from scripts.plan.patch import patch_of, write_patch
from scripts.plan.picture import draw
from scripts.plan.timing import measure_apart


def main(
    dataset_dir: str,
    output: str = "plan.json",
    minutes: float = 60,
    memory: float = 8,
    datalist: str | None = None,
    class_names: Sequence[str] | None = None,
    output_dir: str = "output",
    workers: int = 0,
) -> None:
    """Writes settings for a data set: a patch on train, evaluate and inference, with the reason of each setting.

    Example: python -m scripts.plan --dataset_dir DIR --output plan.json --minutes 60

    Args:
        dataset_dir: folder of the data set, in a layout that `scripts.data.layouts` knows.
        output: the patch; a picture of the data and of what was chosen lies beside it, as PNG.
        minutes: that a training may take on this machine.
        memory: GiB that it may take, of the GPU where there is one.
        datalist: a JSON file whose cases are looked at; without one, all cases are.
        class_names: names of the values 0, 1, ...; by default those of the datalist, of the folder or of train.json.
        output_dir: folder of `check.json` and of the facts that the data check remembers; they are used if it ran.
        workers: number of threads that read; 0 for one per core.
    """
    for name, value in (("minutes", minutes), ("memory", memory)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise UserError(f"{name} is {value!r}: expected a number above 0; give another --{name}")
    if Path(output).suffix != ".json":
        raise UserError(f"output is {output!r}: expected a name that ends in .json; give another --output")
    if Path(output).is_dir():
        raise UserError(f"{output}: is a folder, expected a file; give another --output")
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    found, names = check_listed(dataset_dir, datalist, class_names, output_dir, int(workers), pieces=True)
    if found.errors:
        more = (
            f" (and {len(found.errors) - 1} more; python -m scripts.check lists them)" if len(found.errors) > 1 else ""
        )
        raise UserError(found.errors[0] + more)
    data = fingerprint(found, names, listed=split_of(datalist, dataset_dir))
    if data.patients < 2:
        raise UserError(f"{dataset_dir}: found one patient with a label, expected two or more; add labelled images")
    values = [int(value) for facts in data.labels for value in facts["counts"] or {}]
    usual = not class_names and names == shipped("train")["class_names"]
    if usual and max(values, default=0) + 1 < len(names):
        raise UserError(
            f"class_names: the labels have the values 0 to {max(values, default=0)}, and nothing names them; expected "
            "their names, say --class_names \"['background','NAME']\""
        )
    plan = make_plan(data, minutes, memory, measure_apart)
    about = (
        f"A patch on train, evaluate and inference, made by scripts.plan for {len(data.labels)} labelled cases of "
        f"{data.patients} patients and {minutes:g} minutes. Every line may be changed."
    )
    rename_previous(Path(output))
    write_patch(patch_of(plan, about), Path(output))
    picture = Path(output).with_suffix(".png")
    draw(data, plan, picture)
    for name, reason in plan.reasons.items():
        value = plan.settings[name]
        print(f"{name} = {value if len(str(value)) < 60 else '...'}: {reason}")
    print(f"written: {output}, {picture}")
    files = f"\"['configs/train.json','{output}']\""
    given = {"dataset_dir": dataset_dir} | ({"datalist": datalist} if datalist else {})
    data_options = " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in given.items())
    print(f"next: python -m monai.bundle run training --config_file {files} {data_options}")


def split_of(datalist: str | None, dataset_dir: str) -> Split | None:
    """How a datalist, or the folders themselves, divide the cases; of several folds, the first one is validated on."""
    sides = set() if datalist else {pair.get("split") for pair in find_pairs(dataset_dir)}
    if not datalist and (None in sides or len(sides) == 1):
        return None
    content = read_datalist(datalist, dataset_dir) if datalist else make_datalist(dataset_dir)
    fold = min((entry["fold"] for entry in content["training"] if "fold" in entry), default=None)
    choose_fold(content, fold, datalist or dataset_dir)
    return Split(len(content["training"]), len(content["validation"]), fold)
