"""What was learned of weights on cases with a truth: `model_doubt.json` beside `model.pt`."""

import hashlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.data import Dataset
from monai.inferers import Inferer
from monai.networks.utils import eval_mode
from monai.utils import ensure_tuple
from torch import nn

from scripts.core.errors import UserError, one_line_reason
from scripts.core.files import read_json, write_json
from scripts.core.processes import is_main_process
from scripts.data.digests import sha256_of_files
from scripts.doubt import reliability
from scripts.doubt.likeness import DEPTH, PATIENT, Fingerprint, facts_of, fingerprint_of
from scripts.doubt.lowest_level import LowestLevel
from scripts.doubt.model import FEWEST, ClassModel, Example, Expected, fit
from scripts.training.weights_info import NETWORKS, read_info

logger = logging.getLogger(__name__)

FACTS = "training_images.json"  # in the folder of an evaluation: what the fingerprint is made of
MOST = 500  # training images of a fingerprint


@dataclass(frozen=True)
class Calibration:
    """What was learned.

    Attributes:
        weights: sha256 of the weights that it is of.
        looks: what the looks differed in.
        cases: with a truth, from which it was learned.
        patients: of these cases.
        temperature: that makes the probabilities fit best.
        errors: by class the calibration error without the temperature and with it.
        classes: the models by class; a class with too few patients has none.
        fingerprint: of the training images, or None where they were not at hand or too few.
    """

    weights: str
    looks: str
    cases: int
    patients: int
    temperature: float
    errors: dict[str, list[float]]
    classes: dict[str, ClassModel]
    fingerprint: Fingerprint | None = None

    def expect(self, signs: Mapping[str, Mapping[str, float]], volumes: Mapping[str, float]) -> dict[str, Expected]:
        """What is expected of the classes of a case that have a model and were found.

        Args:
            signs: by class.
            volumes: in millilitres, by class, in the label map.
        """
        return {
            name: model.expect(signs[name], volumes[name])
            for name, model in self.classes.items()
            if name in signs and volumes.get(name)
        }

    def to_dict(self) -> dict:
        models = {name: model.to_dict() for name, model in self.classes.items()}
        return {**vars(self), "classes": models, "fingerprint": self.fingerprint and self.fingerprint.to_dict()}

    @classmethod
    def from_dict(cls, content: Mapping) -> "Calibration":
        models = {name: ClassModel.from_dict(model) for name, model in content["classes"].items()}
        known = content.get("fingerprint")
        return cls(**{**content, "classes": models, "fingerprint": known and Fingerprint.from_dict(known)})


def digest(weights: str | Sequence[str]) -> str:
    """The sha256 of the weights: of one network's file, or of the list of all their sha256, whoever lists them."""
    found: list[str] = []
    for file in map(Path, ensure_tuple(weights)):
        listed = read_info(file)[0][NETWORKS] if file.suffix == ".json" else [{"sha256": sha256_of_files(file)}]
        found += [entry["sha256"] for entry in listed]
    return found[0] if len(found) == 1 else hashlib.sha256("\n".join(found).encode()).hexdigest()


def file_beside(weights: str | Sequence[str]) -> Path:
    """`model_doubt.json` for `model.pt`; for several files `ensemble_doubt.json` beside the first one."""
    files = [Path(file) for file in ensure_tuple(weights)]
    return files[0].with_name(f"{files[0].stem if len(files) == 1 else 'ensemble'}_doubt.json")


def read(weights: str | Sequence[str]) -> Calibration | None:
    """What lies beside the weights, whatever it is of; None where there is no such file.

    Raises:
        UserError: the file is no calibration.
    """
    file = file_beside(weights)
    if not file.is_file():
        return None
    try:
        return Calibration.from_dict(read_json(file))
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{file}: found no calibration ({error}), expected that of scripts.calibrate; delete it"
        ) from error


def find(weights: str | Sequence[str], looks: str | None = None) -> Calibration | None:
    """What was learned of these weights; None, and a line in the log, where there is nothing that can be used.

    Args:
        weights: file, or files, of the network's weights.
        looks: what the looks at an image differ in; None where only the fingerprint is asked for, of which nothing is
            said if it is missing.
    """
    file, found = file_beside(weights), read(weights)
    if found is None:
        if looks:
            logger.info(
                f"no {file.name} beside the weights: doubt is written, but no Dice is predicted; docs/how-to/doubt.md "
                "says how to make it"
            )
        return None
    wrong = (found.weights != digest(weights) and "other weights") or (
        looks is not None and found.looks != looks and f"looks that differ in {found.looks}, not in {looks}"
    )
    if wrong:
        logger.warning(f"{file}: of {wrong}, so it is not used; make it again, see docs/how-to/doubt.md")
        return None
    return found


class Learning:
    """Learns at the end of an evaluation of validation cases.

    Args:
        folder: of its results.
        weights: file, or files, of the network's weights.
        images: the training images as the network is given them, for the fingerprint.
        patients: by the path of the image.
        network: with these weights.
        inferer: makes the scores of an image.
        device: that the network runs on.
    """

    def __init__(
        self,
        folder: str,
        weights: str | Sequence[str],
        images: Dataset,
        patients: Mapping[str, str],
        network: nn.Module,
        inferer: Inferer,
        device: torch.device,
    ):
        self.folder, self.weights, self.images, self.patients = Path(folder), weights, images, patients
        self.network, self.inferer, self.device = network, inferer, device

    def begin(self) -> None:
        """Before the evaluation: deletes the results of an earlier one, so that they can't be taken for its own."""
        if is_main_process():
            (self.folder / "metrics.json").unlink(missing_ok=True)

    def run(self) -> None:
        if is_main_process():
            write_json({"images": list(self.facts())}, self.folder / FACTS, indent=None)
            write(learn([self.folder], self.weights), self.weights)

    def facts(self) -> Iterator[dict]:
        """Of every training image, or of MOST of them; one that can't be read is left out."""
        level, step = LowestLevel(self.network), max(1, math.ceil(len(self.images) / MOST))
        for number in range(0, len(self.images), step):
            try:
                image = self.images[number]["image"]
                with eval_mode(self.network), level:
                    self.inferer(image.as_tensor()[None].to(self.device), self.network)
                patient = self.patients.get(self.images.data[number]["image"], str(number))
                yield facts_of(image, level.features) | {PATIENT: hashlib.sha256(patient.encode()).hexdigest()[:16]}
            except Exception as error:
                logger.warning(f"left out of the fingerprint: {one_line_reason(error)}")


def learn(runs: Sequence[Path], weights: str | Sequence[str]) -> Calibration:
    """Learns from evaluations with looks.

    Args:
        runs: their folders; of one network, or of those of several folds on the cases that each has not seen.
        weights: file, or files, that the result is to be used with.

    Raises:
        UserError: a folder holds no evaluation, or one without looks, or of other classes or looks than the first.
    """
    contents = [evaluation(run) for run in runs]
    first = contents[0]
    for run, content in zip(runs, contents):
        for key, found, expected in (
            ("class_names", content["class_names"], first["class_names"]),
            ("looks", content["doubt"]["looks"], first["doubt"]["looks"]),
        ):
            if found != expected:
                raise UserError(f"{run}/metrics.json: {key} is {found!r}, expected {expected!r}, as in {runs[0]}")
    cases = [case for content in contents for case in content["metric_per_case"]]
    sums = reliability.add([content["doubt"]["reliability"] for content in contents])
    assert sums is not None
    temperature = reliability.best_temperature(sums)
    names = first["class_names"][1:]
    models = {name: fit_class(cases, name, str(value)) for value, name in enumerate(names, start=1)}
    return Calibration(
        weights=digest(weights),
        looks=first["doubt"]["looks"],
        cases=len(cases),
        patients=len({case["patient"] for case in cases}),
        temperature=temperature,
        errors={name: [reliability.calibration_error(sums, name, at) for at in (1.0, temperature)] for name in names},
        classes={name: model for name, model in models.items() if model},
        fingerprint=fingerprint_of(facts_in(runs)),
    )


def facts_in(runs: Sequence[Path]) -> list[dict]:
    """Those of the training images of all evaluations; each network has features of its own, so of several without."""
    found = [facts for run in runs if (run / FACTS).is_file() for facts in read_json(run / FACTS)["images"]]
    if len(runs) > 1:
        found = [{name: row for name, row in facts.items() if name != DEPTH} for facts in found]
    return list({str(facts): facts for facts in found}.values())


def evaluation(run: Path) -> dict:
    """The `metrics.json` of an evaluation with looks."""
    file = run / "metrics.json"
    if not file.is_file():
        raise UserError(f"{file}: not found, expected the folder of an evaluation; correct --runs")
    content = read_json(file)
    if not content.get("has_truth") or not content.get("doubt"):
        raise UserError(
            f"{file}: found no looks in it, expected those of an evaluation with configs/calibrate.json; evaluate again"
        )
    return content


def fit_class(cases: Sequence[dict], name: str, value: str) -> ClassModel | None:
    """The models of a class, from the cases that have it in their label map; a false alarm has the Dice 0."""
    sound, worse = [], []
    for case in cases:
        found = case["metrics"][value]
        if (
            name in case["signs"] and found["predicted_ml"]
        ):  # few voxels of the network's grid may not be one of the image
            dice = 0.0 if case["status"][value] == "false alarm" else found["Dice"]
            ratio = (found["truth_ml"] or 0.0) / found["predicted_ml"]
            sound.append(Example(case["signs"][name], dice, case["patient"], ratio))
        for one in case["worse"]:
            if name in one["signs"] and one["dice"][name] is not None:
                worse.append(Example(one["signs"][name], one["dice"][name], case["patient"]))
    return fit(sound, worse)


def write(found: Calibration, weights: str | Sequence[str]) -> Path:
    """Writes the file beside the weights, and says what is in it."""
    file = file_beside(weights)
    write_json(found.to_dict(), file)
    for name, (before, after) in found.errors.items():
        model = found.classes.get(name)
        known = (
            f"predicted within {model.reach():.3f} in nine of ten cases"
            if model
            else f"not predicted: fewer than {FEWEST} patients have it"
        )
        logger.info(f"{name}: Dice {known}; calibration error {before:.3f}, after scaling {after:.3f}")
    if found.fingerprint is None:
        logger.info("no fingerprint of the training images: they are too few, so no image is called unlike them")
    logger.info(f"{file}: temperature {found.temperature:g}, from {found.cases} cases of {found.patients} patients")
    return file
