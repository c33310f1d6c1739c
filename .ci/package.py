"""Writes the zip file that the model zoo wants, and proves it by using it in an empty folder.

    python .ci/package.py --weights FILE [--patch bundle/configs/demo.json] [--images DIR]

With `--patch`, knobs of that file that train.json and inference.json share are written into the packaged
configurations: the package stands as its weights were trained.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import monai.bundle

ROOT = Path(__file__).resolve().parent.parent
NAME = "male_pelvis_mri_segmentation"
LEFT_OUT = {"__pycache__", "output", "predictions", "data"}


def collect(weights: Path, patch: Path | None, target: Path) -> None:
    """Copies the bundle to `target`, with its weights, JSON re-indented by 4 and the patch's knobs written in."""
    knobs = json.loads(patch.read_text()) if patch else {}
    for file in sorted((ROOT / "bundle").rglob("*")):
        relative = file.relative_to(ROOT / "bundle")
        if not file.is_file() or LEFT_OUT & set(relative.parts) or relative.parts[0] == "models":
            continue  # weights that a checkout holds; what becomes models/model.pt is named
        copy = target / relative
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".json":
            content = json.loads(file.read_text())
            if file.name in ("train.json", "inference.json"):
                content |= {key: value for key, value in knobs.items() if key in content and not key.startswith("_")}
            if file.name == "metadata.json" and "spatial_size" in knobs:
                for side in content["network_data_format"].values():
                    next(iter(side.values()))["spatial_shape"] = knobs["spatial_size"]
            copy.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n")
        else:
            shutil.copyfile(file, copy)
    (target / "models").mkdir(parents=True)
    shutil.copyfile(ROOT / "bundle" / "models" / "README.md", target / "models" / "README.md")
    shutil.copyfile(weights, target / "models" / "model.pt")
    described = weights.with_suffix(".json")  # names its file: it belongs to a model.pt only
    if described.is_file() and weights.name == "model.pt":
        shutil.copyfile(described, target / "models" / "model.json")


def pack(folder: Path, file: Path) -> None:
    """A zip file of the folder; same content, same bytes."""
    file.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(str(path.relative_to(folder.parent)), (2020, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())


def prove(file: Path, images: Path | None) -> None:
    """Unpacks in an empty folder, loads the network by `monai.bundle.load`, and segments one image."""
    with tempfile.TemporaryDirectory() as empty:
        with zipfile.ZipFile(file) as archive:
            archive.extractall(empty)
        root = Path(empty) / NAME
        sys.path.insert(0, str(root))  # where MONAI looks for the network when it loads a bundle by name
        network = monai.bundle.load(NAME, bundle_dir=empty, workflow_type="inference")
        count = sum(parameter.numel() for parameter in network.parameters())
        print(f"monai.bundle.load: {type(network).__name__} with {count:,} parameters")
        if images is None:
            return
        image = next(path for path in sorted(images.rglob("*.nii.gz")) if "MR" in path.parent.name)
        command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", "configs/inference.json"]
        command += ["--dataset_dir", str(image.resolve())]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
        print(f"run inference: {', '.join(sorted(path.name for path in (root / 'predictions').glob('*_seg.nii.gz')))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="the checkpoint that becomes models/model.pt")
    parser.add_argument("--patch", type=Path, help="the patch its training was given, if any")
    parser.add_argument("--images", type=Path, help="folder of images; the proof segments the first of them")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "dist")
    given = parser.parse_args()
    if not given.weights.is_file():
        sys.exit(f"{given.weights}: no weights there; train first, or name a checkpoint with --weights")
    version = json.loads((ROOT / "bundle" / "configs" / "metadata.json").read_text())["version"]
    file = given.output_dir / f"{NAME}_v{version}.zip"
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / NAME
        collect(given.weights, given.patch, folder)
        pack(folder, file)
    prove(file, given.images)
    print(f"{os.path.relpath(file)}: {file.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
