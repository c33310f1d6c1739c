"""Proves that the MONAI Deploy App SDK gives the labels that `run inference` gives, in every voxel.

    python integration/monai_deploy.py [--weights FILE] [--patch FILE]

In an environment of its own it trains a small model on phantoms, if there are no weights; exports it as TorchScript;
writes one phantom as DICOM series in five orientations; labels each series by the application `deploy/app.py`, which
writes a DICOM segmentation; reads that back and compares it with the labels of `run inference` of the same image. It
ends with status 1 if anything is different.
"""

import argparse
import os
import resource
import shutil
import sys
from pathlib import Path

import common

SDK = "4.0.0"
REQUIREMENTS = [
    f"monai-deploy-app-sdk=={SDK}",
    "highdicom>=0.28,<0.29",
    "pydicom>=3.0.2,<4",
    "monai[fire,ignite,nibabel,skimage,tensorboard,tqdm]>=1.6.1,<1.7",
    "matplotlib>=3.10,<4",
    "jinja2>=3.1",
]
TORCH = ["torch==2.13.0"]
APP = Path(__file__).resolve().parent / "deploy" / "app.py"
DEMO = common.BUNDLE / "configs" / "demo.json"
PATIENTS, EPOCHS = 8, 4  # of the small model: enough for more classes than body and background
PHANTOM_SIZE = (64, 64, 32)
SIZE = (80, 72, 36)  # of the series; no two numbers are equal, and none is one of the network's
STACK = 32 * 2**20  # bytes, which Holoscan asks for
TOLERANCE = 1e-3  # mm; a number in a DICOM file has at most 16 characters
TO_LPS = (-1.0, -1.0, 1.0)  # NIfTI counts to the right and to the front, DICOM to the left and to the back
PLANES = {"LPS": "axial", "PIR": "sagittal", "SRA": "coronal", "RAS": "axial half-turned", "OBL": "oblique"}


def write_slices(image, folder: Path) -> None:
    """Writes a NIfTI image as a DICOM series. Its numbers count from the last slice, which no reader may rely on."""
    import numpy as np

    from scripts.series.writer import write_series

    last = image.shape[2] - 1
    turned = np.diag([1.0, 1.0, -1.0, 1.0])
    turned[2, 3] = last
    facts = {"PatientID": "900", "PatientName": "Phantom^", "PatientSex": "M", "SeriesDescription": folder.name}
    facts |= {"StudyID": "1", "StudyDate": "20260101", "StudyTime": "120000", "Manufacturer": "synthetic"}
    facts |= {"ManufacturerModelName": "phantom", "DeviceSerialNumber": "0", "SoftwareVersions": "0"}
    write_series(np.asarray(image.dataobj)[:, :, ::-1], image.affine @ turned, folder, **facts)


def read_segmentation(file: Path, image):
    """The label map of a DICOM segmentation, on the grid of the image that it was made of.

    Every frame is placed by the position that it names itself; `ValueError` says which one is not on the grid.
    """
    import nibabel as nib
    import numpy as np
    from pydicom import dcmread

    content = dcmread(file)
    shared, frames = content.SharedFunctionalGroupsSequence[0], content.PerFrameFunctionalGroupsSequence
    affine = np.diag([*TO_LPS, 1]) @ image.affine
    rows, columns = (float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing)
    pixels = content.pixel_array.reshape(len(frames), content.Rows, content.Columns)
    labels = np.zeros(image.shape, np.uint8)
    for frame, mask in zip(frames, pixels, strict=True):
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        turned = [*shared.get("PlaneOrientationSequence", []), *frame.get("PlaneOrientationSequence", [])]
        right, down = np.array(turned[0].ImageOrientationPatient, float).reshape(2, 3)
        index = round(float((np.linalg.inv(affine) @ [*position, 1])[2]))
        expected = affine @ [[0, 1, 0], [0, 0, 1], [index, index, index], [1, 1, 1]]
        found = np.stack([position, position + columns * right, position + rows * down], axis=1)
        if not 0 <= index < image.shape[2] or np.abs(found - expected[:3]).max() > TOLERANCE:
            raise ValueError(f"{file}: a frame at {position.round(3)} is on no slice of the image")
        number = int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        labels[:, :, index][mask.T > 0] = number
    return nib.Nifti1Image(labels, image.affine)


def prepare(given: argparse.Namespace, work: Path) -> tuple[Path, str]:
    """The bundle with the weights in it, and its configurations as `--config_file` names them."""
    weights, patch = given.weights, given.patch
    if not weights:
        weights, patch = train(common.empty_folder(work.parent / "trained"), patch or DEMO)
    bundle = work / "bundle"
    common.package().collect(weights.resolve(), [], bundle)
    files = ["configs/inference.json"]
    if patch:
        shutil.copy(patch, bundle / "configs" / patch.name)
        files.append(f"configs/{patch.name}")
    return bundle, str(files).replace(" ", "")


def train(folder: Path, patch: Path) -> tuple[Path, Path]:
    """Weights of a small network that is trained on phantoms, and the patch that it was trained with."""
    from scripts.phantoms.generate import generate

    print(f"training a small network on phantoms, {EPOCHS} epochs", flush=True)
    generate(folder / "phantoms", patients=PATIENTS, scans=1, size=PHANTOM_SIZE)
    common.run_bundle(
        "training",
        common.BUNDLE,
        folder / "printed.log",
        f"['configs/train.json','{patch.resolve()}']",
        dataset_dir=folder / "phantoms",
        output_dir=folder,
        ckpt_dir=folder,
        epochs=EPOCHS,
    )
    return folder / "model.pt", patch


def export(bundle: Path, config_file: str, work: Path) -> Path:
    """The network with its weights and configurations as one file of TorchScript."""
    command = [sys.executable, "-m", "monai.bundle", "ckpt_export", "network_def", "--filepath", work / "model.ts"]
    command += ["--ckpt_file", "models/model.pt", "--meta_file", "configs/metadata.json", "--config_file", config_file]
    common.run_command(command, work / "export.log", cwd=bundle)
    return work / "model.ts"


def make_app(bundle: Path, folder: Path) -> Path:
    """The application beside the bundle's scripts, as it would be packaged."""
    shutil.copytree(bundle / "scripts", folder / "scripts")
    return Path(shutil.copy(APP, folder))


def segment(app: Path, model: Path, series: Path, output: Path, as_container: bool = False) -> Path:
    """Runs the application on one series.

    Args:
        app: the application.
        model: the exported file.
        series: folder of DICOM files.
        output: receives what is written.
        as_container: gives the paths in environment variables and the model in a folder of models, as in a container.

    Returns:
        The DICOM segmentation.
    """
    output.mkdir(parents=True)
    log = output.with_suffix(".log")
    paths = {"input": series, "output": output, "model": model}
    if as_container:
        named = common.empty_folder(model.parent / "models" / model.stem)
        paths["model"] = Path(shutil.copy(model, named)).parent.parent
        variables = {f"HOLOSCAN_{name.upper()}_PATH": str(path) for name, path in paths.items()}
        common.run_command([sys.executable, app], log, env={**os.environ, **variables})
    else:
        options = [word for name, path in paths.items() for word in (f"--{name}", path)]
        common.run_command([sys.executable, app, *options], log)
    files = list(output.glob("*.dcm"))
    if len(files) != 1:
        common.fail(f"{output}: found {len(files)} files, expected one DICOM segmentation; the end of {log}:", log)
    return files[0]


def grow_stack() -> None:
    """What `ulimit -s` does in a shell, for this process and all that it starts."""
    _, most = resource.getrlimit(resource.RLIMIT_STACK)
    if most != resource.RLIM_INFINITY and most < STACK:
        sys.exit(
            f"the stack is limited to {most} bytes, Holoscan asks for {STACK}; ask who runs this machine to raise it"
        )
    resource.setrlimit(resource.RLIMIT_STACK, (STACK, most))


def children_seconds() -> float:
    """Processor time of the programs that have ended; a clock would say how busy the machine is."""
    times = os.times()
    return times.children_user + times.children_system


def compare(proofs: common.Proofs, what: str, image: Path, segmentation: Path, expected: Path, seconds: float) -> None:
    """Notes whether a DICOM segmentation is what `run inference` has written, in every voxel and in its place."""
    import nibabel as nib

    try:
        labels = read_segmentation(segmentation, nib.load(image))
    except ValueError as error:
        proofs.note(what, False, str(error))
        return
    file = segmentation.parent / expected.name
    nib.save(labels, file)
    difference = common.compare_labels(file, expected)
    proofs.note(what, difference.none, f"{difference.found}, {seconds:.0f} s of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given = common.read_options(parser, "monai_deploy")
    grow_stack()
    common.enter_environment(given.work, [*(given.torch or TORCH), *REQUIREMENTS], given.fresh)
    common.use_bundle()
    work = common.empty_folder(given.work.resolve() / "run")

    import nibabel as nib

    bundle, config_file = prepare(given, work)
    model = export(bundle, config_file, work)
    app = make_app(bundle, work / "app")
    geometries = common.write_geometries(work, SIZE, oblique=True)
    labels = common.run_inference(bundle, work / "images", work / "predictions", config_file)
    proofs = common.Proofs()
    for codes, (image, _) in geometries.items():
        write_slices(nib.load(image), work / "series" / codes)
    trials = [(codes, f"{PLANES[codes]} series ({codes})", False) for codes in geometries]
    for codes, what, as_container in [*trials, ("LPS", "folders as a container gives them", True)]:
        began = children_seconds()
        output = work / "segmentations" / (f"{codes}_container" if as_container else codes)
        segmentation = segment(app, model, work / "series" / codes, output, as_container)
        image = geometries[codes][0]
        expected = labels[image.name.removesuffix(".nii.gz")]
        compare(proofs, what, image, segmentation, expected, children_seconds() - began)
    classes = common.compare_labels(expected, expected).classes
    proofs.note("labels to compare", len(classes) > 2, f"classes {classes}; two of them would say little")
    proofs.end()


if __name__ == "__main__":
    main()
