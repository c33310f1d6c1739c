"""What is done to every image: further looks at it, and whether it is like the training data."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.engines import IterationEvents
from monai.networks.utils import eval_mode
from monai.transforms import Randomizable, Transform
from monai.utils import CommonKeys, convert_to_dst_type
from torch import nn

from scripts.core.errors import UserError
from scripts.doubt import calibration
from scripts.doubt.calibration import Calibration
from scripts.doubt.likeness import DEPTH, depth_of, facts_of
from scripts.doubt.looks import Looks, probabilities
from scripts.doubt.lowest_level import LowestLevel
from scripts.doubt.signs import dice, take

PROBABILITY = "probability"  # key of the mean of the looks, beside `pred`


class Doubt:
    """Adds to the output of every case the mean `probability` of the looks, and keeps the signs of the last case.

    The scores, and so the label map, stay what they are without it. The transforms after the network bring the mean
    onto the image's own grid.

    Args:
        looks: makes them.
        class_names: names of the values 0, 1, ...
        weights_file: of the network; what was learned of them lies beside.
        worsening: random changes that make an image worse, to learn what bad results look like. They are given images
            of mean 0 and spread 1, and end with such; the image's own mean and spread are then given back.
        worsened: how often each image is looked at after such a change; the batch then needs a `small_truth`.
        learned: whether to use what was learned of the weights before.
        likeness: judges the image by what the network makes of it; the looks are none of its business.
    """

    def __init__(
        self,
        looks: Looks,
        class_names: Sequence[str],
        weights_file: str | Sequence[str],
        worsening: Transform | None = None,
        worsened: int = 0,
        learned: bool = True,
        likeness: "Likeness | None" = None,
    ):
        self.looks, self.class_names, self.weights_file = looks, list(class_names), weights_file
        self.worsening, self.worsened, self.learned, self.likeness = worsening, worsened, learned, likeness
        self.calibration: Calibration | None = None
        self.signs: dict[str, dict[str, float]] = {}
        self.worse: list[dict] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.look)

    def begin(self, engine: Engine) -> None:
        self.looks.check(engine.network)
        self.kind = self.looks.kind(engine.network)
        self.calibration = calibration.find(self.weights_file, self.kind) if self.learned else None

    def look(self, engine: Engine) -> None:
        if self.likeness is not None:
            self.likeness.stop_watching()
        output = engine.state.output
        image, scores = (plain(output[key]) for key in (CommonKeys.IMAGE, CommonKeys.PRED))
        with eval_mode(engine.network), torch.autocast(image.device.type, enabled=bool(engine.amp)):
            mean, self.signs = self.signs_of(image, scores, engine.network)
            self.worse = [self.made_worse(engine, image, seed) for seed in range(self.worsened)]
        output[PROBABILITY] = convert_to_dst_type(mean[None], output[CommonKeys.PRED])[0]

    def signs_of(self, image: torch.Tensor, scores: torch.Tensor, network: nn.Module) -> tuple[torch.Tensor, dict]:
        """The mean of the looks at an image, and the signs."""
        return take(probabilities(scores[0]).argmax(0), self.looks(image, network), self.class_names)

    def made_worse(self, engine: Engine, image: torch.Tensor, seed: int) -> dict:
        """Signs and Dice, by class, of the image after a random change."""
        assert isinstance(self.worsening, Randomizable)
        self.worsening.set_random_state(seed + self.worsened * engine.state.iteration)
        mean, spread = image.mean(), image.std().clamp(min=1e-6)
        changed = self.worsening({CommonKeys.IMAGE: (image[0] - mean) / spread})[CommonKeys.IMAGE]
        changed = plain(changed)[None].to(image) * spread + mean
        scores = engine.inferer(changed, engine.network)
        found = probabilities(scores[0]).argmax(0)
        truth = plain(engine.state.batch["small_truth"])[0, 0].to(image.device)
        _, signs = self.signs_of(changed, scores, engine.network)
        scored: dict[str, float | None] = {}
        for value, name in enumerate(self.class_names[1:], start=1):
            masks = found == value, truth == value
            scored[name] = dice(*masks) if any(mask.any() for mask in masks) else None
        return {"signs": signs, "dice": scored}

    @property
    def temperature(self) -> float:
        return self.calibration.temperature if self.calibration else 1.0

    def expected(self, measures: Mapping[str, Mapping]) -> dict[str, dict]:
        """By class, what is expected of the last case.

        Args:
            measures: of the case's record; the volumes are taken from it.
        """
        if self.calibration is None:
            return {}
        volumes = {name: found["predicted_ml"] for name, found in measures.items()}
        return {name: one.to_dict() for name, one in self.calibration.expect(self.signs, volumes).items()}


class Likeness:
    """Says of every image whether it is of the kind that the network was trained on.

    Args:
        weights_file: of the network; the fingerprint of the training images lies beside, or nothing is said.
        unlike: warn, or skip: then an image of another kind is left out.
    """

    def __init__(self, weights_file: str | Sequence[str], unlike: str = "warn"):
        self.weights_file, self.skips = weights_file, unlike == "skip"
        self.begun, self.said = False, ""
        self.level: LowestLevel | None = None

    def begin(self, network: nn.Module) -> None:
        """Reads the fingerprint, once. Only where it has features of the network, these are watched."""
        if not self.begun:
            known = calibration.find(self.weights_file)
            self.fingerprint = known.fingerprint if known else None
            watched = self.fingerprint is not None and DEPTH in self.fingerprint.clouds
            self.level = LowestLevel(network) if watched else None
            self.begun = True

    def judge(self, facts: dict[str, list[float]]) -> None:
        """Says in words what is unlike, or nothing.

        Raises:
            UserError: something is, and such images are to be skipped.
        """
        if self.said:
            return
        assert self.fingerprint is not None
        self.said = self.fingerprint.unlike(facts)
        if self.said and self.skips:
            raise UserError(f"unlike the training data: {self.said}; say --unlike warn to segment it all the same")

    def stop_watching(self) -> None:
        """The network has run on the image; what follows are further looks at it."""
        if self.level is not None:
            self.level.stop()

    @contextmanager
    def watching(self, image: MetaTensor, network: nn.Module) -> Iterator[None]:
        """Judges an image before the network runs on it, and after by its features too."""
        self.begin(network)
        self.said = ""
        if self.fingerprint is None:
            yield
            return
        facts = facts_of(image)
        self.judge(facts)
        with self.level or nullcontext():
            yield
        if self.level is not None:
            self.judge(facts | depth_of(self.level.features))


def plain(x: torch.Tensor) -> torch.Tensor:
    """Without the metadata of MONAI, which slow every operation."""
    return x.as_tensor() if hasattr(x, "as_tensor") else x
