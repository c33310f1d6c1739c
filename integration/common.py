"""What the scripts of this folder share: an environment for the other program, phantoms in several geometries, the
labels of `run inference` to compare with, and the table of what was proved.

Each script starts in any Python and needs nothing but this clone. `enter_environment` makes a virtual environment that
holds the other program and starts the script again in it; only then are MONAI, nibabel and the rooms imported.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "bundle"
ENVIRONMENTS = ROOT / "integration" / ".environments"
INSTALLED = "installed.txt"  # in an environment: the requirements that it was made from
ORIENTATIONS = ("LPS", "PIR", "SRA", "RAS")
AFFINE_TOLERANCE = 1e-4  # mm: a header holds its numbers in float32


def read_options(parser: argparse.ArgumentParser, name: str) -> argparse.Namespace:
    """Reads the command line, with the options that every script has; a file that is not there ends the script."""
    parser.add_argument(
        "--work", type=Path, default=ENVIRONMENTS / name, help="folder for the environment and all other files"
    )
    parser.add_argument(
        "--torch", nargs="+", metavar="REQUIREMENT", help="which PyTorch to install, such as torch==2.13.0"
    )
    parser.add_argument("--fresh", action="store_true", help="make the environment anew")
    parser.add_argument("--weights", type=Path, help="a trained model.pt, in place of a small one that is trained here")
    parser.add_argument("--patch", type=Path, help="the patch that its training was given, if any")
    given = parser.parse_args()
    for file in (given.weights, given.patch):
        if file and not file.is_file():
            fail(f"{file}: no such file; expected a trained model.pt, or the patch of its training")
    return given


def enter_environment(work: Path, requirements: Sequence[str], fresh: bool = False) -> None:
    """Makes the environment `work`/venv, if it is not there, and runs the script again with its Python.

    It returns at once in the process that this starts; the process before does not go on.

    Args:
        work: folder of the environment.
        requirements: what pip installs.
        fresh: make it anew.
    """
    folder = work.resolve() / "venv"
    if Path(sys.prefix) == folder:
        return
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    wanted = "\n".join(requirements) + "\n"
    noted = folder / INSTALLED
    if fresh or not noted.is_file() or noted.read_text(encoding="utf-8") != wanted:
        print(f"making the environment {folder} (minutes: PyTorch and what else is missing)", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        if status := subprocess.run(command, check=False).returncode:
            sys.exit(f"pip ended with status {status}; its last lines above say why")
        noted.write_text(wanted, encoding="utf-8")
    arguments = [word for word in sys.argv[1:] if word != "--fresh"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # on a busy machine threads that spin cost twenty times more
    environment["PATH"] = f"{python.parent}{os.pathsep}{environment.get('PATH', '')}"
    sys.exit(subprocess.run([str(python), str(Path(sys.argv[0]).resolve()), *arguments], env=environment).returncode)


def empty_folder(folder: Path) -> Path:
    """Returns the folder, without what an earlier run has left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def use_bundle(bundle: Path = BUNDLE) -> None:
    """Makes the rooms of a bundle importable."""
    sys.path.insert(0, str(bundle))


def package():
    """The module that makes the zip file for the model zoo."""
    sys.path.insert(0, str(ROOT / ".ci"))
    import package

    return package


def write_geometries(folder: Path, size: tuple[int, int, int], oblique: bool = False) -> dict[str, tuple[Path, Path]]:
    """Writes one phantom in several orientations: the same patient, another order and direction of the axes.

    Args:
        folder: receives the folders `images` and `labels`.
        size: voxels along L, P and S.
        oblique: also writes the LPS one on a grid that is turned by 20 degrees about two axes.

    Returns:
        Image and label by orientation.
    """
    import nibabel as nib
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    drawn = draw_phantom(size)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    written = {}
    for codes in (*ORIENTATIONS, *(["OBL"] if oblique else [])):
        paths = tuple(folder / kind / f"Case_900_{codes}.nii.gz" for kind in ("images", "labels"))
        for path, image in zip(paths, drawn):
            if codes == "OBL":
                image = with_affine(image, tilt() @ image.affine)
            else:
                image = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))
            nib.save(image, path)
        written[codes] = paths
    return written


def write_noise(folder: Path, size: tuple[int, int, int], images: int = 2) -> None:
    """Writes smooth noise, in which a network finds pieces of this and that; the images differ in how smooth it is."""
    import nibabel as nib
    import numpy as np
    from scipy.ndimage import gaussian_filter

    folder.mkdir(parents=True, exist_ok=True)
    place = draw_phantom(size)[0].affine
    for number in range(1, images + 1):
        noise = gaussian_filter(np.random.default_rng(number).normal(size=size), sigma=1.5 + 0.5 * number)
        counts = 1000 * (noise - noise.min()) / np.ptp(noise)
        nib.save(nib.Nifti1Image(counts.astype(np.int16), place), folder / f"Noise_{number}.nii.gz")


def draw_phantom(size: tuple[int, int, int]) -> tuple:
    """Image and label of a patient that no training here has seen, as nibabel images."""
    import gzip

    import nibabel as nib

    from scripts.phantoms.generate import make_scan
    from scripts.phantoms.layouts import volume_bytes
    from scripts.phantoms.shapes import voxel_mm

    arrays = make_scan(patient=900, week=0, size=size)
    files = (gzip.decompress(volume_bytes(array, voxel_mm(size))) for array in arrays)
    return tuple(nib.Nifti1Image.from_bytes(content) for content in files)


def tilt():
    """A rotation by 20 degrees about the first axis and then about the third one, as a 4 x 4 matrix."""
    import numpy as np

    cosine, sine = np.cos(np.radians(20)), np.sin(np.radians(20))
    first = np.array([[1, 0, 0, 0], [0, cosine, -sine, 0], [0, sine, cosine, 0], [0, 0, 0, 1]])
    third = np.array([[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return third @ first


def with_affine(image, affine):
    """The same voxels in another place."""
    moved = image.__class__(image.dataobj, affine, image.header)
    moved.set_sform(affine, code="scanner")
    moved.set_qform(affine, code="scanner")
    return moved


def run_bundle(verb: str, bundle: Path, log: Path, config_file: str, **overrides) -> None:
    """Runs `python -m monai.bundle run VERB` in the folder of a bundle, as a user types it.

    Args:
        verb: inference, training, ...
        bundle: the folder.
        log: receives what the run prints.
        config_file: as for `--config_file`.
        overrides: further options.
    """
    command = [sys.executable, "-m", "monai.bundle", "run", verb, "--config_file", config_file]
    for name, value in overrides.items():
        command += [f"--{name}", str(value)]
    run_command(command, log, cwd=bundle)


def run_command(command: Sequence, log: Path, **options) -> None:
    """Runs a program to its end; if it fails, the script ends with what it has printed last.

    Args:
        command: the program and its arguments.
        log: receives what it prints.
        options: of `subprocess.run`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    with log.open("w", encoding="utf-8") as stream:
        status = subprocess.run(words, stdout=stream, stderr=subprocess.STDOUT, check=False, **options).returncode
    if status:
        fail(f"`{' '.join(words)[:200]}` ended with status {status}; the end of {log}:", log)


def run_inference(
    bundle: Path, images: Path, output_dir: Path, config_file: str = "configs/inference.json", **overrides
) -> dict[str, Path]:
    """The labels of `run inference`, which another program's labels are compared with.

    Args:
        bundle: folder with the weights in models/model.pt.
        images: a folder of images.
        output_dir: receives the labels.
        config_file: as for `--config_file`.
        overrides: further options.

    Returns:
        Label files by the name of the image without its extension.
    """
    run_bundle(
        "inference",
        bundle,
        output_dir.with_suffix(".log"),
        config_file,
        dataset_dir=images.resolve(),
        output_dir=output_dir.resolve(),
        pictures=False,
        **overrides,
    )
    return {file.name.removesuffix("_seg.nii.gz"): file for file in sorted(output_dir.glob("*_seg.nii.gz"))}


@dataclass
class Difference:
    """How two label maps differ.

    Args:
        voxels: number of voxels with another label; None if the grids have different shapes.
        affine: largest difference of the affines in mm.
        classes: the labels that are in the second file.
        found: both in words.
    """

    voxels: int | None
    affine: float
    classes: list[int]
    found: str

    @property
    def none(self) -> bool:
        return self.voxels == 0 and self.affine <= AFFINE_TOLERANCE


def compare_labels(file: Path, reference: Path) -> Difference:
    """Compares two label maps voxel by voxel, and their place in space."""
    import nibabel as nib
    import numpy as np

    image, truth = nib.load(file), nib.load(reference)
    labels, expected = (np.asarray(one.dataobj) for one in (image, truth))
    affine = float(np.abs(image.affine - truth.affine).max())
    classes = [int(value) for value in np.unique(expected)]
    if labels.shape != expected.shape:
        return Difference(None, affine, classes, f"shape {labels.shape}, expected {expected.shape}")
    voxels = int((labels != expected).sum())
    found = f"{voxels} of {expected.size} voxels differ, affine by {affine:.1e} mm, {len(classes)} classes"
    return Difference(voxels, affine, classes, found)


def differing_share(files: Sequence[Path]) -> float:
    """The largest share of voxels in which label maps of one image in several orientations differ from the first."""
    import nibabel as nib
    import numpy as np

    first, *others = (np.asarray(nib.as_closest_canonical(nib.load(file)).dataobj) for file in files)
    return max(float((other != first).mean()) if other.shape == first.shape else 1.0 for other in others)


@dataclass
class Proofs:
    """What was found, in the order in which it was tried, for the table at the end."""

    rows: list[tuple[str, bool, str]] = field(default_factory=list)

    def note(self, what: str, proved: bool, found: str) -> bool:
        """Keeps and prints one finding, and says whether it is as it should be."""
        self.rows.append((what, bool(proved), found))
        print(f"{'ok  ' if proved else 'FAIL'}  {what}: {found}", flush=True)
        return bool(proved)

    def end(self) -> NoReturn:
        """Prints the table and ends the script, with status 1 if something was not as it should be."""
        width = max((len(what) for what, _, _ in self.rows), default=0)
        print(f"\n{'what':{width}}        found")
        for what, proved, found in self.rows:
            print(f"{what:{width}}  {'ok' if proved else 'FAIL':4}  {found}")
        broken = sum(not proved for _, proved, _ in self.rows)
        print(f"{len(self.rows) - broken} of {len(self.rows)} proved")
        sys.exit(1 if broken or not self.rows else 0)


@contextmanager
def running(command: Sequence[str], log: Path, **options) -> Iterator[subprocess.Popen]:
    """Runs a server for as long as the context lasts; then it and all that it has started is ended, after an error too.

    Args:
        command: the program and its arguments.
        log: receives what it prints.
        options: of `subprocess.Popen`.
    """
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True, **options)
    try:
        yield process
    finally:
        end_group(process, signal.SIGTERM, 10)
        end_group(process, signal.SIGKILL, 10)


def end_group(process: subprocess.Popen, number: int, seconds: float) -> None:
    """Sends a signal to a process and its children, which `start_new_session` has put into one group."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"process {process.pid} did not end within {seconds} s of signal {number}", file=sys.stderr)


def wait_for(ready, seconds: float, what: str, log: Path, every: float = 1.0):
    """Calls `ready` until what it returns is true, and returns that.

    Args:
        ready: a function without arguments.
        seconds: how long to wait at most.
        what: for the message if it takes longer.
        log: its end is printed then.
        every: seconds between two calls.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(every)
    fail(f"{what}: not within {seconds:.0f} s; the end of {log}:", log)


def fail(reason: str, log: Path | None = None) -> NoReturn:
    """Ends the script with a reason, and with the last lines of a log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:] if log and log.is_file() else []
    sys.exit("\n".join([reason, *lines]))
