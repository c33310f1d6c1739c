"""Writes the zip file that the model zoo wants, then tries it by `verify.py`.

    python .ci/package.py --weights FILE [--patch bundle/configs/demo.json ...] [--images DIR]

With `--patch`, the packaged train.json and inference.json have what they share with these files as it stands there, and
what that refers to: the package stands as its weights were trained. A patch on training alone leaves inference.json.
metadata.json gets the classes and the sizes of the data.

The parts of bundle/ that are the project's travel, and nothing that runs leave beside them: results, plans, lists of
cases. Of models/ travel the weights that a recipe names as shipped: the JSON file, the files that it lists and what was
learned of them. Python files are sorted and formatted as the zoo's checks want them, JSON is indented by 4.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from monai.bundle import ConfigParser
from verify import FORMAT, LEARNED, SORT, shipped_weights

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "bundle"
NAME = "male_pelvis_mri_segmentation"
sys.path.insert(0, str(BUNDLE))
from scripts.core.errors import UserError  # noqa: E402
from scripts.core.files import read_json  # noqa: E402
from scripts.training.weights import mismatch  # noqa: E402
from scripts.training.weights_info import NETWORKS, info_file, matching, read_info  # noqa: E402

PARTS = {"LICENSE", "configs", "docs", "large_files.yml", "models", "scripts"}  # of bundle/


def travels(relative: Path, shipped: set[str]) -> bool:
    """Whether a file of bundle/ is part of the package; the weights of the package itself come from elsewhere."""
    if relative.parts[0] not in PARTS or "__pycache__" in relative.parts:
        return False
    if relative.parts[0] == "models" and relative.name != "README.md":
        return relative.name in shipped
    return True


def contents(bundle: Path = BUNDLE) -> list[Path]:
    """The files of bundle/ that travel, relative to it."""
    shipped = shipped_weights(bundle)
    files = (file.relative_to(bundle) for file in bundle.rglob("*") if file.is_file())
    return sorted(relative for relative in files if travels(relative, shipped))


def referred(value: object) -> set[str]:
    """The ids at the top level that a part of a configuration refers to."""
    if isinstance(value, dict):
        return set().union(*(referred(part) for key, part in value.items() if not key.startswith("_desc_")))
    if isinstance(value, list):
        return set().union(*map(referred, value))
    return set(re.findall(r"@([A-Za-z_]\w*)", value)) if isinstance(value, str) else set()


def with_knobs(name: str, content: dict, knobs: dict) -> dict:
    """A configuration, or the metadata, as the patch changes it.

    Raises:
        UserError: it would refer to something that is not there.
    """
    given = {key: value for key, value in knobs.items() if not key.startswith("_")}
    words = str(knobs.get("_desc_", "")).partition(":")[0]
    for_inference = "inference" in words or not words.startswith("A patch on")
    if name == "train.json" or (name == "inference.json" and for_inference):
        wanted = {key for key in given if key.lstrip("+").partition("::")[0] in content}
        while more := {key for key in given if key in set().union(*(referred(given[k]) for k in wanted))} - wanted:
            wanted |= more
        content |= {key: given[key] for key in given if key in wanted}
    if name in ("train.json", "inference.json") and (missing := referred(content) - content.keys()):
        raise UserError(f"--patch: {name} would refer to {', '.join(sorted(missing))}, which it does not have")
    if name == "metadata.json":
        describe_data(content["network_data_format"], given)
    return content


def describe_data(formats: dict, knobs: dict) -> None:
    """Writes the sizes and classes of a patch into the formats of the metadata."""
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    if "spatial_size" in knobs:
        image["spatial_shape"] = pred["spatial_shape"] = knobs["spatial_size"]
    if "class_names" in knobs:
        set_channels(pred, knobs["class_names"])
    if isinstance(knobs.get("out_channels"), int):  # one map for the one class that is not the background
        set_channels(pred, list(pred["channel_def"].values())[-knobs["out_channels"] :])


def set_channels(side: dict, names: list[str]) -> None:
    side |= {"num_channels": len(names), "channel_def": {str(number): name for number, name in enumerate(names)}}


def describe_input(configs: Path) -> None:
    """Writes into metadata.json how many channels the network takes, where they are not those that it has.

    A recipe may give the network more than the image has, such as the slices beside it.
    """
    inference = ConfigParser(json.loads((configs / "inference.json").read_text(encoding="utf-8")))
    if "network_def::in_channels" not in inference:
        return
    channels = inference.get_parsed_content("network_def::in_channels")
    metadata = json.loads((configs / "metadata.json").read_text(encoding="utf-8"))
    image = metadata["network_data_format"]["inputs"]["image"]
    if image["num_channels"] != channels:
        set_channels(image, [f"image_{number}" for number in range(channels)])
        write_json(metadata, configs / "metadata.json")


def write_json(content: dict, file: Path) -> None:
    file.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def collect(weights: Path, patches: Sequence[Path], target: Path) -> None:
    """Copies the bundle to `target`, with its weights, JSON re-indented by 4 and the patches' knobs written in."""
    given = [read_json(patch) for patch in patches]
    for relative in contents():
        file, copy = BUNDLE / relative, target / relative
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".json":
            content = json.loads(file.read_text(encoding="utf-8"))
            for knobs in given:
                content = with_knobs(file.name, content, knobs)
            write_json(content, copy)
        else:
            shutil.copyfile(file, copy)
    describe_input(target / "configs")
    take_weights(weights, target / "models")


def refuse_other_classes(weights: Path, folder: Path) -> None:
    """Refuses a package whose weights were trained on other classes than its configurations have.

    Args:
        weights: the file that was given, for the message.
        folder: what `collect` has made.
    """
    expected = json.loads((folder / "configs" / "inference.json").read_text(encoding="utf-8"))["class_names"]
    known = read_info(folder / "models" / "model.json")
    if known and (trained := known[0].get("class_names", expected)) != expected:
        raise UserError(
            f"{weights}: found the classes {trained}, expected {expected}; give with --patch the files that the "
            "training was given, and write options that were typed, such as --class_names, into one"
        )


def take_weights(weights: Path, models: Path) -> None:
    """The weights as model.pt, and the JSON file with what is known of them, which names them by their new name."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    descriptions = read_info(info_file(weights))
    known = matching(descriptions, weights, digest)
    if descriptions and known is None:
        raise UserError(mismatch(weights, digest, info_file(weights).name))
    shutil.copyfile(weights, models / "model.pt")
    if known is not None:
        known = known | {NETWORKS: [{"file": "model.pt", "sha256": digest}]}
        (models / "model.json").write_text(json.dumps(known, indent=4) + "\n", encoding="utf-8")
    learned = weights.with_name(f"{weights.stem}{LEARNED}")
    if learned.is_file():
        shutil.copyfile(learned, models / f"model{LEARNED}")


def tidy(folder: Path) -> None:
    """The zoo's order of imports and its format; where it checks, `scripts` is a package like any other."""
    for command in (SORT, FORMAT):
        subprocess.run([sys.executable, "-m", *command, folder.name], cwd=folder.parent, check=True)


def pack(folder: Path, file: Path) -> None:
    """A zip file of the folder; same content, same bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), (2020, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())


def package_file(folder: Path = ROOT / "dist") -> Path:
    """The zip file of the present version."""
    version = json.loads((BUNDLE / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
    return folder / f"{NAME}_v{version}.zip"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="the checkpoint that becomes models/model.pt")
    parser.add_argument("--patch", type=Path, nargs="+", default=[], help="the patches its training was given, if any")
    parser.add_argument("--images", type=Path, help="folder of images; the trial segments the first of them")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "dist")
    given = parser.parse_args()
    for patch in given.patch:
        if not patch.is_file():
            sys.exit(f"{patch}: no such file; name the patches that the training was given, or leave out --patch")
    if not given.weights.is_file():
        sys.exit(f"{given.weights}: no weights there; train first, or name a checkpoint with --weights")
    file = package_file(given.output_dir)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / NAME
        try:
            collect(given.weights, given.patch, folder)
            refuse_other_classes(given.weights, folder)
        except UserError as error:
            sys.exit(str(error))
        tidy(folder)
        tried = Path(work) / file.name
        pack(folder, tried)
        command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("verify.py")), str(tried)]
        command += ["--images", str(given.images)] if given.images else []
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        status = subprocess.run(command, env=environment, check=False).returncode
        if status:
            sys.exit(status)
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(tried, file)  # only now: one that fails is not published
    print(f"{os.path.relpath(file)}: {file.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
