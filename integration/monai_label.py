"""Tries the bundle in MONAI Label's server, unmodified, with the requests of 3D Slicer, and prints what it proved.

    python3.11 integration/monai_label.py

It needs nothing but this clone and a Python 3.10 or 3.11: the server, PyTorch and the rest go into an environment of
their own (see `--work`), which is kept for the next time. The server listens on this machine only and is stopped at the
end. Without `--weights`, a small network is trained on phantoms first. The exit status is 1 if something is broken.
"""

import argparse
import csv
import json
import shutil
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import common
from common import Proofs, compare_labels, empty_folder, fail

SERVERS = {
    "0.8.5": ["monailabel==0.8.5", "pydicom<3", "dicomweb-client<0.60", "pynetdicom<3"],  # newer ones it can't import
    "main": ["monailabel @ git+https://github.com/Project-MONAI/MONAILabel@main"],
}
TORCH = ["torch>=2.10,<3", "torchvision"]
BUNDLE_NEEDS = ["monai[fire,ignite,nibabel,skimage,tensorboard,tqdm]>=1.6.1,<1.7", "matplotlib>=3.10", "jinja2>=3.1"]
PYTHONS = ((3, 10), (3, 11))  # the server imports distutils, which later ones do not have
TINY = {
    "_desc_": "A patch for the trial of a server: a network that is trained in a minute.",
    "spatial_size": [32, 32, 16],
    "features": 4,
    "dropout": 0.0,
    "batch_size": 1,
    "epochs": 10,
    "learning_rate": 0.01,
    "lr_decay": 0.9,
    "ce_weight": 1.0,
    "rotate_range": 0.1,
    "noise_std": 0.05,
    "num_workers": 0,
}
STRATEGY = (  # lines of the application's main.py, and what is added after them
    (
        "from monailabel.interfaces.tasks.train import TrainTask\n",
        "from monailabel.tasks.activelearning.epistemic import Epistemic\n",
    ),
    ('            "first": First(),\n', '            "epistemic": Epistemic(),\n'),
)
SIZE = (48, 40, 24)  # voxels of the phantoms along L, P and S
PATIENTS, WEEKS = 5, 2
TOLERATED = 0.001  # share of voxels on a boundary that rounding may move from one class to another
RUINOUS_RATE = 0.5  # of learning
START_SECONDS, TRAIN_SECONDS, INFER_SECONDS = 300, 1800, 600


@dataclass
class Bench:
    """Where everything lies.

    Args:
        work: folder of this run.
        app: the server's application.
        bundle: the bundle in it.
        studies: the images that the server offers.
        phantoms: some of them, with labels.
        geometries: others, one phantom in several orientations.
        noise: others, which show no anatomy.
    """

    work: Path
    app: Path
    bundle: Path
    studies: Path
    phantoms: Path
    geometries: Path
    noise: Path

    @property
    def model(self) -> str:
        return self.bundle.name

    def weights(self) -> dict[str, str]:
        """The sha256 of every file of weights, by name."""
        from scripts.training.checkpoint_files import sha256

        return {file.name: sha256(file.read_bytes()) for file in sorted((self.bundle / "models").glob("*.pt"))}

    def history(self) -> list[dict]:
        """The lines of the last training's history."""
        with (self.bundle / "output" / "history.csv").open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    def patients(self) -> dict[str, set]:
        """Whose scans the last training had, by split."""
        cases = json.loads((self.bundle / "output" / "check.json").read_text(encoding="utf-8"))["cases"]
        return {split: {c["patient"] for c in cases if c["split"] == split} for split in ("training", "validation")}


class Server:
    """The requests that the module of 3D Slicer sends.

    Args:
        url: of the server.
        model: name of the bundle.
        log: what the server prints.
    """

    def __init__(self, url: str, model: str, log: Path):
        self.url, self.model, self.log = url, model, log

    def ask(self, method: str, path: str, timeout: float = 60, **options):
        """Sends a request; an answer other than 200 ends the script with what the server has printed."""
        import requests

        answer = requests.request(method, self.url + path, timeout=timeout, **options)
        if answer.status_code != 200:
            time.sleep(1)  # until the server has written the reason
            fail(f"{method} {path} answered {answer.status_code} {answer.text[:200]}; the end of {self.log}:", self.log)
        return answer

    def is_up(self) -> bool:
        import requests

        try:
            return requests.get(f"{self.url}/info/", timeout=60).status_code == 200
        except requests.ConnectionError:
            return False

    def info(self) -> dict:
        return self.ask("GET", "/info/").json()

    def panel(self, section: str) -> dict:
        """What Slicer's table of options holds before a user touches it: of a list, its first entry."""
        config = self.info()[section][self.model]["config"]
        return {key: value[0] if isinstance(value, list) else value for key, value in config.items()}

    def segment(self, image: str, output: str, **options):
        """The answer to a request for the labels of an image of the studies, or for what is known of them."""
        params = {**self.panel("models"), "result_extension": ".nii.gz", "result_dtype": "uint8", **options}
        path = f"/infer/{self.model}?image={image}&output={output}"
        return self.ask("POST", path, INFER_SECONDS, data={"params": json.dumps(params)})

    def infer(self, image: str, target: Path, **options) -> Path:
        """Segments an image; `target` receives the labels."""
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.segment(image, "image", **options).content)
        return target

    def steps(self, image: str, **options) -> list[str]:
        """The transforms that the server applies to the scores of an image."""
        return list(self.segment(image, "json", **options).json()["latencies"]["transform"]["post"])

    def save_label(self, image: str, file: Path) -> dict:
        """Submits a label, as the button of that name does."""
        with file.open("rb") as stream:
            return self.ask("PUT", f"/datastore/label?image={image}", files={"label": (file.name, stream)}).json()

    def train(self, **switches) -> dict:
        """Trains and waits for the end; returns the task: its status, and its last lines under `details`."""
        self.ask("POST", f"/train/{self.model}", json={**self.panel("trainers"), **switches})

        def ended() -> dict | None:
            task = self.ask("GET", "/train/").json()
            return task if task["status"] in ("DONE", "ERROR", "STOPPED") else None

        return common.wait_for(ended, TRAIN_SECONDS, "training", self.log)


def prepare(given: argparse.Namespace, work: Path) -> Bench:
    """The server's application with the bundle in it, and images without labels."""
    app = work / "monaibundle"
    images = (work / name for name in ("phantoms", "geometries", "noise"))
    bench = Bench(work, app, app / "model" / common.package().NAME, work / "studies", *images)
    command = [sys.executable, "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle", "--output", work]
    common.run_command(command, work / "apps.log")
    offer_order(app / "main.py")
    write_images(bench)
    weights, patch = (given.weights, given.patch) if given.weights else train_tiny(work, bench.phantoms)
    common.package().collect(weights.resolve(), [patch] if patch else [], bench.bundle)
    return bench


def offer_order(file: Path) -> None:
    """Adds the server's strategy by scores to its application for bundles, which leaves it out, as the guide says."""
    text = file.read_text(encoding="utf-8")
    for before, after in STRATEGY:
        if text.count(before) != 1:
            fail(f"{file}: found {text.count(before)} times {before.strip()!r}, expected it once")
        text = text.replace(before, before + after)
    file.write_text(text, encoding="utf-8")


def write_images(bench: Bench) -> None:
    """Writes all images, and offers them to the server."""
    from scripts.phantoms.generate import generate

    generate(bench.phantoms, patients=PATIENTS, scans=WEEKS, size=SIZE)
    common.write_geometries(bench.geometries, SIZE, oblique=True)
    common.write_noise(bench.noise, SIZE)
    bench.studies.mkdir()
    for folder in (bench.phantoms / "semantic_MRs_anon", bench.geometries / "images", bench.noise):
        for image in folder.glob("*.nii.gz"):
            shutil.copy(image, bench.studies)


def train_tiny(work: Path, phantoms: Path) -> tuple[Path, Path]:
    """Weights of a small network, and the patch that it was trained with."""
    patch = work / "tiny.json"
    patch.write_text(json.dumps(TINY, indent=4), encoding="utf-8")
    print(f"training a small network on phantoms, {TINY['epochs']} epochs", flush=True)
    common.run_bundle(
        "training",
        common.BUNDLE,
        work / "tiny" / "training.log",
        f"['configs/train.json','{patch}']",
        dataset_dir=phantoms,
        output_dir=work / "tiny",
        ckpt_dir=work / "tiny",
    )
    return work / "tiny" / "model.pt", patch


def start_command(bench: Bench, port: int) -> list[str]:
    """The server, on this machine only; it fetches nothing."""
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(bench.app)]
    command += ["--studies", str(bench.studies), "--host", "127.0.0.1", "--port", str(port)]
    for key, value in {"models": bench.model, "zoo_source": "local", "sam2": "false"}.items():
        command += ["--conf", key, value]
    return command


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def try_info(server: Server, proofs: Proofs) -> None:
    """The labels are those of the bundle, and the panel has the switches, with the values of the knobs."""
    labels = server.info()["models"][server.model]["labels"]
    expected = {name: value for value, name in enumerate(shipped("train.json")["class_names"]) if value}
    proofs.note("info: labels", labels == expected, ", ".join(f"{name} {value}" for name, value in labels.items()))
    for section, file in (("models", "inference.json"), ("trainers", "train.json")):
        panel = server.panel(section)
        wanted = {name: panel.get(name) for name in shipped(file)["displayable_configs"]}
        right = None not in wanted.values() and wanted["model_filename"] == "model.pt"
        proofs.note(
            f"info: options of {section}", right, ", ".join(f"{name} {value}" for name, value in wanted.items())
        )


def shipped(file: str) -> dict:
    return json.loads((common.BUNDLE / "configs" / file).read_text(encoding="utf-8"))


def try_inference(
    server: Server,
    bench: Bench,
    proofs: Proofs,
    what: str,
    images: list[str],
    folder: Path,
    switches: dict | None = None,
    **knobs,
) -> list[Path]:
    """Compares the server's labels of images, with some switches, with those of `run inference`, with some knobs."""
    target = bench.work / "results" / what.replace(" ", "_")
    expected = common.run_inference(bench.bundle, folder, target / "expected", **knobs)
    made = []
    for image in images:
        made.append(server.infer(image, target / f"{image}.nii.gz", **(switches or {})))
        difference = compare_labels(made[-1], expected[image])
        proofs.note(f"{what}: {image}", difference.none and len(difference.classes) > 2, difference.found)
    return made


def names(folder: Path) -> list[str]:
    """The names by which the server knows the images of a folder."""
    return sorted(file.name.removesuffix(".nii.gz") for file in folder.glob("*.nii.gz"))


def try_switches(server: Server, bench: Bench, proofs: Proofs) -> None:
    """A switch does what a knob does, which noise shows best, and can be turned off again."""
    images = names(bench.noise)
    plain = try_inference(server, bench, proofs, "noise", images, bench.noise)
    for switch, knob in (("keep_largest", {"keep_largest": True}), ("mirror_images", {"mirror_axes": [0]})):
        made = try_inference(server, bench, proofs, switch, images, bench.noise, {switch: True}, **knob)
        changed = sum(compare_labels(file, other).voxels or 0 for file, other in zip(made, plain))
        steps = ("KeepLargestConnectedComponentd" in server.steps(images[0], **{switch: on}) for on in (True, False))
        effect = changed > 0 if switch == "mirror_images" else list(steps) == [True, False]
        proofs.note(f"{switch}: takes effect", effect, f"{changed} voxels of {len(images)} images of noise differ")
    again = compare_labels(server.infer(images[0], bench.work / "results" / "again.nii.gz"), plain[0])
    proofs.note("switches: off again", again.none, again.found)


def try_slicer_file(server: Server, bench: Bench, proofs: Proofs, image: str, plain: Path) -> None:
    """The file that Slicer asks for holds the same labels."""
    import itk
    import nibabel as nib
    import numpy as np

    made = itk.imread(server.infer(image, bench.work / "results" / "slicer.nrrd", result_extension=".nrrd"))
    labels, expected = itk.array_view_from_image(made).T, np.asarray(nib.load(plain).dataobj)
    same = labels.shape == expected.shape and bool((labels == expected).all())
    proofs.note("infer: as .nrrd", same and labels.dtype == np.uint8, f"shape {labels.shape}, {labels.dtype}")


def main() -> None:
    given = options()
    if sys.version_info[:2] not in PYTHONS:
        found, known = ".".join(map(str, sys.version_info[:2])), " or ".join(f"{a}.{b}" for a, b in PYTHONS)
        fail(f"Python {found}: MONAI Label needs {known}; start the script with that one")
    requirements = [*(given.torch or TORCH), *BUNDLE_NEEDS, *SERVERS[given.server]]
    common.enter_environment(given.work / given.server, requirements, given.fresh)
    common.use_bundle()
    bench = prepare(given, empty_folder(given.work.resolve() / "run"))
    proofs = Proofs()
    port = free_port()
    with common.running(start_command(bench, port), bench.work / "server.log", cwd=bench.work):
        server = Server(f"http://127.0.0.1:{port}", bench.model, bench.work / "server.log")
        common.wait_for(server.is_up, START_SECONDS, "the server", server.log)
        try_everything(server, bench, proofs)
    proofs.end()


def try_order(server: Server, bench: Bench, proofs: Proofs) -> None:
    """The server offers the scans in the order of `scripts.next`."""
    target = bench.work / "results" / "next"
    command = [sys.executable, "-m", "scripts.next", "--dataset_dir", bench.studies, "--count", "5"]
    command += ["--output_dir", target, "--server", server.url]
    common.run_command(command, bench.work / "next.log", cwd=bench.bundle)
    with (target / "next.csv").open(encoding="utf-8", newline="") as stream:
        expected = [Path(row["image"]).name.removesuffix(".nii.gz") for row in csv.DictReader(stream)]
    offered = [server.ask("POST", "/activelearning/epistemic", json={}).json()["id"] for _ in expected]
    proofs.note("next scans: order", offered == expected, f"{len(offered)} scans, first {offered[0]}")


def try_labels(server: Server, bench: Bench, proofs: Proofs) -> None:
    """Submits the label of every phantom, and gets one of them back."""
    labels = sorted((bench.phantoms / "semantic_labels_anon").glob("*.nii.gz"))
    for label in labels:
        server.save_label(label.name.replace("_SEMANTIC", "").removesuffix(".nii.gz"), label)
    done = server.info()["datastore"]["completed"]
    proofs.note("save label", done == len(labels), f"{done} of {len(labels)} images are labelled")
    image = labels[0].name.replace("_SEMANTIC", "").removesuffix(".nii.gz")
    kept = bench.work / "kept.nii.gz"
    kept.write_bytes(server.ask("GET", f"/datastore/label?label={image}&tag=final").content)
    difference = compare_labels(kept, labels[0])
    proofs.note("save label: what was kept", difference.none, difference.found)


def try_training(server: Server, bench: Bench, proofs: Proofs) -> None:
    """Trains two epochs on scans that the server divides by their number."""
    old = bench.weights()
    task = server.train(max_epochs=2, val_split=0.3)
    if not proofs.note("train: ends well", task["status"] == "DONE", f"{task['status']}: {task['details'][-1][-150:]}"):
        return
    epochs = [row["epoch"] for row in bench.history()]
    proofs.note("train: epochs", epochs[-2:] == ["1", "2"], f"{', '.join(epochs)} in history.csv")
    sides = bench.patients()
    shared = sides["training"] & sides["validation"]
    found = ", ".join(f"{len(patients)} in {split}" for split, patients in sides.items())
    proofs.note("train: patients are apart", not shared and all(sides.values()), f"{found}, {len(shared)} in both")
    kept = old["model.pt"] in bench.weights().values()
    proofs.note("train: the model before is kept", kept, ", ".join(bench.weights()))


def try_last_epoch(server: Server, bench: Bench, proofs: Proofs, image: str, plain: Path) -> None:
    """Without validation, the last epoch is served at once if `keep_last` is ticked; if not, a line says what to do."""
    old = bench.weights()
    task = server.train(max_epochs=1, val_split=0.0, keep_last=True)
    new = bench.weights()
    replaced = task["status"] == "DONE" and new["model.pt"] != old["model.pt"] and old["model.pt"] in new.values()
    proofs.note("train: without validation, keep_last", replaced, f"{task['status']}: {task['details'][-1][-150:]}")
    (made,) = try_inference(server, bench, proofs, "new weights", [image], bench.geometries / "images")
    changed = compare_labels(made, plain)
    proofs.note("new weights: take effect", bool(changed.voxels), changed.found)
    try_refusal(server, bench, proofs, "without validation", "keep_last", max_epochs=1, val_split=0.0)


def try_refusal(server: Server, bench: Bench, proofs: Proofs, what: str, words: str, **switches) -> None:
    """A training that is refused leaves the model, and its last line says why."""
    old = bench.weights()["model.pt"]
    task = server.train(**switches)
    said = task["details"][-1]
    refused = task["status"] == "ERROR" and words in said and "Error" not in said and bench.weights()["model.pt"] == old
    proofs.note(f"refusal: {what}", refused, f"{task['status']}: {said}")


def try_worse(server: Server, bench: Bench, proofs: Proofs) -> None:
    """A training that makes the network worse, as by far too large steps, leaves the model as it is."""
    import torch

    file = bench.bundle / "configs" / "train.json"
    written = file.read_text(encoding="utf-8")
    before = torch.load(bench.bundle / "models" / "model.pt", weights_only=True)
    file.write_text(json.dumps({**json.loads(written), "learning_rate": RUINOUS_RATE}), encoding="utf-8")
    task = server.train(max_epochs=1, val_split=0.3)
    file.write_text(written, encoding="utf-8")
    after = torch.load(bench.bundle / "models" / "model.pt", weights_only=True)
    same = before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    scores = ", ".join(f"epoch {row['epoch']} {row['val_mean_dice']}" for row in bench.history())
    proofs.note(
        "train: a worse model", task["status"] == "DONE" and same, f"{task['status']}; validation Dice: {scores}"
    )


def try_everything(server: Server, bench: Bench, proofs: Proofs) -> None:
    images = names(bench.geometries / "images")
    try_info(server, proofs)
    plain = try_inference(server, bench, proofs, "infer", images, bench.geometries / "images")
    turned = [file for file in plain if "OBL" not in file.name]
    share = common.differing_share(turned)
    proofs.note("infer: orientations agree", share <= TOLERATED, f"{share:.4%} of the voxels differ at most")
    try_slicer_file(server, bench, proofs, images[0], plain[0])
    try_switches(server, bench, proofs)
    try_order(server, bench, proofs)
    try_labels(server, bench, proofs)
    try_training(server, bench, proofs)
    try_last_epoch(server, bench, proofs, images[0], plain[0])
    try_worse(server, bench, proofs)
    split = {"max_epochs": 1, "val_split": 0.3, "keep_patients_together": False}
    try_refusal(server, bench, proofs, "a patient on both sides", "put all scans of a patient into one split", **split)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", choices=SERVERS, default="0.8.5", help="release of PyPI, or the newest source")
    return common.read_options(parser, "monai_label")


if __name__ == "__main__":
    main()
