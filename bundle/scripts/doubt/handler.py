"""Takes further looks at every image of an inference or an evaluation, where `uncertainty` asks for it."""

from collections.abc import Mapping, Sequence

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from monai.networks.utils import eval_mode
from monai.utils import CommonKeys, convert_to_dst_type

from scripts.doubt import calibration
from scripts.doubt.calibration import Calibration
from scripts.doubt.looks import Looks, probabilities
from scripts.doubt.signs import take

PROBABILITY = "probability"  # key of the mean of the looks, beside `pred`


class Doubt:
    """Adds to the output of every case the mean `probability` of the looks, and keeps the signs of the last case.

    The scores, and so the label map, stay what they are without it. The transforms after the network bring the mean
    onto the image's own grid.

    Args:
        looks: makes them.
        class_names: names of the values 0, 1, ...
        weights_file: of the network; what was learned of them lies beside.
    """

    def __init__(self, looks: Looks, class_names: Sequence[str], weights_file: str | Sequence[str]):
        self.looks, self.class_names, self.weights_file = looks, list(class_names), weights_file
        self.calibration: Calibration | None = None
        self.signs: dict[str, dict[str, float]] = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.look)

    def begin(self, engine: Engine) -> None:
        self.looks.check(engine.network)
        self.kind = self.looks.kind(engine.network)
        self.calibration = calibration.find(self.weights_file, self.kind)

    def look(self, engine: Engine) -> None:
        output = engine.state.output
        image, scores = (plain(output[key]) for key in (CommonKeys.IMAGE, CommonKeys.PRED))
        result = probabilities(scores[0]).argmax(0)
        with eval_mode(engine.network), torch.autocast(image.device.type, enabled=bool(engine.amp)):
            mean, self.signs = take(result, self.looks(image, engine.network), self.class_names)
        output[PROBABILITY] = convert_to_dst_type(mean[None], output[CommonKeys.PRED])[0]

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


def plain(x: torch.Tensor) -> torch.Tensor:
    """Without the metadata of MONAI, which slow every operation."""
    return x.as_tensor() if hasattr(x, "as_tensor") else x
