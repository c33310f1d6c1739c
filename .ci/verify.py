"""Tries a package as the model zoo's checks and its users do: unpacked in an empty folder, with nothing else at hand.

    python .ci/verify.py ZIP [--images DIR]

The zoo's six steps come first, by the functions of MONAI that the zoo calls and with its arguments; then its format of
Python files; then what a user does. The first thing that fails ends it in one line.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai import bundle

SCHEMA = Path(__file__).resolve().parent.parent / "tests" / "schemas" / "meta_schema_20240725.json"
LEARNED = "_doubt.json"  # ending of what was learned of weights, beside them
REQUIRED = ("LICENSE", "configs/metadata.json", "configs/inference.json", "models/model.pt", "docs/README.md")
NETWORK = "network_def"
PYTHON = [sys.executable, "-m"]
# isort, black and flake8 as the zoo runs them; -o: there `scripts` is a package like any other
SORT = ["isort", "--quiet", "--profile", "black", "--line-length", "120", "-o", "scripts"]
FORMAT = ["black", "--quiet", "--skip-magic-trailing-comma", "--line-length", "120"]
FORMAT += [word for version in ("py37", "py38", "py39") for word in ("--target-version", version)]
CLEAN = ["flake8", "--isolated", "--max-line-length", "120", "--select", "B,C,E,F,N,P,T4,W,B9"]
CLEAN += ["--ignore", "E203,E501,E741,W503,W504,C408,N812,B023,B905,B028,B907,C419"]
CLEAN += ["--per-file-ignores", "__init__.py: F401, __main__.py: F401"]


def required_files(root: Path) -> None:
    missing = [name for name in REQUIRED if not (root / name).is_file()]
    if missing:
        raise FileNotFoundError(f"found no {', '.join(missing)}; expected these files; put them into bundle/")


def shipped_weights(root: Path) -> set[str]:
    """Names of the weights that some configuration takes from models/, of the files that a JSON file among these lists,
    and of what was learned of them."""
    contents = (json.loads(file.read_text(encoding="utf-8")) for file in (root / "configs").glob("*.json"))
    names = {content["shipped_weights"] for content in contents if content.get("shipped_weights")}
    for name in sorted(names):
        description = (root / "models" / name).with_suffix(".json")
        if description.is_file():
            names |= {description.name, *listed_files(description)}
        learned = root / "models" / f"{Path(name).stem}{LEARNED}"
        names |= {learned.name} if learned.is_file() else set()
    return names


def listed_files(description: Path) -> dict[str, str]:
    """The files of weights that a JSON file in models/ lists, and the sha256 of each."""
    networks = json.loads(description.read_text(encoding="utf-8"))["networks"]
    return {entry["file"]: entry["sha256"] for entry in networks}


def described_weights(root: Path) -> None:
    """Both ways: what is listed is there, with its sha256; what is there is listed, or is model.pt without a list."""
    models = root / "models"
    expected = {"README.md", "model.pt"}
    learned = {file.name for file in models.glob(f"*{LEARNED}")}
    expected |= {name for name in learned if any(models.glob(f"{name.removesuffix(LEARNED)}.*"))}
    for description in (file for file in models.glob("*.json") if file.name not in learned):
        listed = listed_files(description)
        expected |= {description.name, *listed}
        for name, digest in listed.items():
            file = models / name
            found = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no such file"
            if found != digest:
                said = f"found {found[:16]}, {description.name} lists {digest[:16]}"
                raise ValueError(f"models/{name}: {said}; copy both files")
    more = sorted(file.name for file in models.iterdir() if file.name not in expected)
    if more:
        raise ValueError(f"models/{more[0]}: no JSON file in models/ lists it; remove it or list it")
    named = [name for name in shipped_weights(root) if not (models / name).is_file()]
    if named:
        raise FileNotFoundError(f"models/{named[0]}: a configuration names it as shipped, but it is not there")


def version(root: Path) -> None:
    metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    if metadata["version"] not in metadata["changelog"]:
        known = ", ".join(metadata["changelog"])
        raise ValueError(
            f"configs/metadata.json: version is {metadata['version']}, its changelog has {known}; write an entry for it"
        )


def metadata_format(root: Path) -> None:
    """Against the schema that lies here: where a file is, MONAI fetches none."""
    schema = root / "eval" / "schema.json"
    schema.parent.mkdir()
    shutil.copyfile(SCHEMA, schema)
    bundle.verify_metadata(meta_file=str(root / "configs" / "metadata.json"), filepath=str(schema))


def properties(root: Path) -> None:
    """With an image to work on: the workflow refuses to begin without one."""
    image = root.parent / "image.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((32, 32, 16), np.float32), np.eye(4)), image)
    made = bundle.create_workflow(
        workflow_type="inference",
        bundle_root=str(root),
        config_file=str(root / "configs" / "inference.json"),
        logging_file=str(root / "configs" / "logging.conf"),
        meta_file=str(root / "configs" / "metadata.json"),
        dataset_dir=str(image),
    )
    missing = made.check_properties()
    if missing:
        raise ValueError(f"configs/inference.json: found no {', '.join(missing)}; a workflow is expected to have them")


def shapes(root: Path) -> None:
    bundle.verify_net_in_out(
        net_id=NETWORK,
        meta_file=str(root / "configs" / "metadata.json"),
        config_file=str(root / "configs" / "inference.json"),
        bundle_root=str(root),
    )


def torchscript(root: Path) -> None:
    """Without a key: the weights are expected to be a plain state dict."""
    exported = root / "models" / "verify_model.ts"
    bundle.ckpt_export(
        net_id=NETWORK,
        filepath=str(exported),
        ckpt_file=str(root / "models" / "model.pt"),
        meta_file=str(root / "configs" / "metadata.json"),
        config_file=str(root / "configs" / "inference.json"),
        bundle_root=str(root),
    )
    torch.jit.load(exported)
    exported.unlink()


def python_format(root: Path) -> None:
    for tool in ([*SORT, "--check"], [*FORMAT, "--check"], CLEAN):
        done = subprocess.run([*PYTHON, *tool, root.name], cwd=root.parent, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines() or ["a file would be reformatted"]
            raise ValueError(f"{tool[0]}: {said[0]} ({len(said)} in all); fix it in bundle/scripts")


LOADING = """
import sys, torch
from monai import bundle
folder, name = sys.argv[1:]
torch.hub.set_dir(folder)
network = bundle.load(name)
saved = torch.load(f"{folder}/bundle/{name}/models/model.pt", weights_only=True, map_location="cpu")
loaded = network.cpu().state_dict()
other = [key for key in loaded if key not in saved or not torch.equal(saved[key], loaded[key])]
if other:
    first = f"no or other values for {len(other)} tensors, {other[0]} first"
    sys.exit(f"models/model.pt: {first}; expected the network's plain state dict")
print(f"   {type(network).__name__} with {sum(part.numel() for part in network.parameters()):,} parameters")
"""


def loading(root: Path) -> None:
    """By its name alone, from another folder, where MONAI looks for bundles. MONAI takes what fits and is silent on the
    rest, so the network's weights are compared with the file's."""
    with tempfile.TemporaryDirectory() as hub:
        (Path(hub) / "bundle").symlink_to(root.parent)
        command = [sys.executable, "-W", "ignore", "-c", LOADING, hub, root.name]
        done = subprocess.run(command, cwd=hub, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip().splitlines()[-1])
    print(done.stdout.splitlines()[-1])


def inference(root: Path, images: Path) -> None:
    found = (path for path in sorted(images.rglob("*.nii.gz")) if "label" not in path.parent.name.lower())
    image = next((path for path in found if not path.name.endswith(("_seg.nii.gz", "_doubt.nii.gz"))), None)
    if image is None:
        raise FileNotFoundError(f"{images}: found no *.nii.gz beside label maps; expected images; make demo makes some")
    command = [*PYTHON, "monai.bundle", "run", "inference", "--config_file", "configs/inference.json"]
    command += ["--dataset_dir", str(image)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    written = sorted(path.name for path in (root / "predictions").glob("*_seg.nii.gz"))
    if done.returncode or not written:
        raise ValueError(f"inference ended with status {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    print(f"   {', '.join(written)}")


def reason(error: BaseException) -> str:
    """One line of what began it: MONAI wraps errors into others."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


STEPS = {
    "the files that the zoo asks for": required_files,
    "the weights are those that their JSON files list": described_weights,
    "the version is in the changelog": version,
    "the metadata fits its schema": metadata_format,
    "the inference workflow has its properties": properties,
    "the network's input and output are as the metadata says": shapes,
    "the weights can be exported to TorchScript": torchscript,
    "isort, black and flake8 have nothing to say": python_format,
    "monai.bundle.load": loading,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("--images", type=Path, help="folder of images, of which one is segmented")
    given = parser.parse_args()
    steps = dict(STEPS)
    if given.images:
        images = given.images.resolve()
        steps["run inference on one image"] = lambda root: inference(root, images)
    with tempfile.TemporaryDirectory() as empty:
        with zipfile.ZipFile(given.package) as archive:
            archive.extractall(empty)
        (root,) = (path.resolve() for path in Path(empty).iterdir())  # the bundle's folder, named like it
        began_in = Path.cwd()
        os.chdir(empty)
        sys.path.insert(0, str(root))  # where MONAI looks for the bundle's own code
        for name, step in steps.items():
            try:
                step(root)
            except Exception as error:
                sys.exit(f"{given.package}: not so: {name}; {reason(error)}")
            print(f"-- {name}", flush=True)
        os.chdir(began_in)  # Windows deletes no folder that a process is in


if __name__ == "__main__":
    main()
