"""Networks in whole numbers of eight bits (int8) for OpenVINO, which keeps them only if Dice stays.

`configs/quantise.json` names `Quantisation`.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from monai.data import Dataset
from monai.inferers import Inferer
from monai.metrics import DiceMetric
from monai.networks import one_hot
from torch import nn

from scripts.core.errors import UserError
from scripts.core.extras import require
from scripts.inference.ensemble import single_networks
from scripts.inference.fastest import labels_of
from scripts.inference.openvino import OpenVinoInferer, compiled, convert, keep, load_openvino, size_of

logger = logging.getLogger(__name__)

PURPOSE, EXTRA = "configs/quantise.json", "int8"
MEAN_FALL, CLASS_FALL = 0.005, 0.01  # of Dice, on the mean and of any class, that is allowed
MOST_WINDOWS = 100  # that the ranges are taken from


class Quantisation:
    """Makes a network in int8 and compares its Dice with that of the network in float32.

    Args:
        network: the network with its weights, or an ensemble, of which each member is made.
        inferer: an inferer of MONAI that calls the network.
        images: prepared training images, from which NNCF takes the ranges of all numbers.
        scored: prepared cases with `label`, on which Dice is compared; none of them gives a range.
        class_names: names of the classes, background first.
        ckpt_dir: folder of the weights, beside which it is kept.
    """

    def __init__(
        self,
        network: nn.Module,
        inferer: Inferer,
        images: Dataset,
        scored: Dataset,
        class_names: Sequence[str],
        ckpt_dir: str,
    ):
        self.network, self.inferer, self.images, self.scored = network, inferer, images, scored
        self.class_names, self.ckpt_dir = class_names, ckpt_dir
        load_openvino()
        self.nncf = require("nncf", EXTRA, PURPOSE)

    @torch.no_grad()
    def run(self) -> None:
        """Makes it, tries it, and keeps it.

        Raises:
            UserError: Dice falls by more than is allowed, no case has a class, or it can't be written; nothing is kept.
        """
        self.network.eval()
        members = single_networks(self.network)
        windows = self.windows()
        logger.info(f"int8: ranges from {len(windows)} inputs of {size_of(windows[0])}, {len(members)} network(s) ...")
        exact = [convert(member, windows[0]) for member in members]
        whole = [self.quantised(model, windows) for model in exact]
        (before, slow), (after, fast) = (self.dice([compiled(model) for model in kind]) for kind in (exact, whole))
        if not before:
            raise UserError(
                f"int8: no class in the labels of the {len(self.scored)} validation cases, expected one or more, to "
                "compare Dice; name a datalist with such cases under validation"
            )
        falls = {name: before[name] - after[name] for name in before}
        fall, worst = sum(falls.values()) / len(falls), max(falls, key=lambda name: falls[name])
        found = (
            f"mean Dice {mean_of(after):.4f} in place of {mean_of(before):.4f} on {len(self.scored)} validation cases, "
            f"{worst} {after[worst]:.4f} in place of {before[worst]:.4f}"
        )
        if fall > MEAN_FALL or falls[worst] > CLASS_FALL:
            allowed = f"expected a fall of at most {MEAN_FALL} of the mean and {CLASS_FALL} of a class"
            raise UserError(f"int8: {found}; {allowed}; it is not kept, take bfloat16 or float32 for these weights")
        place = OpenVinoInferer(False, ckpt_dir=self.ckpt_dir, int8=True)
        for member, model in zip(members, whole):
            keep(model, place.file(member, windows[0]))
        logger.info(f"int8: {found}; {sum(slow) / sum(fast):.1f} times as fast; kept in {place.folder}")

    def windows(self) -> list[torch.Tensor]:
        """Inputs of the network, all of the size that it sees most often, spread over the images."""
        seen: list[torch.Tensor] = []

        def record(x: torch.Tensor, *_, **__) -> torch.Tensor:
            seen.extend(x.as_subclass(torch.Tensor).float().split(1))
            return self.network(x)

        for number in range(len(self.images)):
            self.inferer(self.images[number]["image"][None], record)
        if not seen:
            raise UserError("int8: no training cases in the datalist; expected one or more, to take the ranges from")
        size = Counter(map(size_of, seen)).most_common(1)[0][0]
        alike = [window for window in seen if size_of(window) == size]
        return alike[:: -(-len(alike) // MOST_WINDOWS)]

    def quantised(self, model, windows: list[torch.Tensor], **options):
        """A model of OpenVINO in int8; its activations may have both signs, as before an instance norm.

        Args:
            model: in float32.
            windows: inputs that give the ranges.
            options: of `nncf.quantize`, in place of these.
        """
        examples = self.nncf.Dataset([window.numpy() for window in windows])
        options = {"preset": self.nncf.QuantizationPreset.MIXED, "subset_size": len(windows)} | options
        return self.nncf.quantize(model.clone(), examples, **options)

    def dice(self, runs: list[Callable], clock: Callable[[], float] = time.perf_counter) -> tuple[dict, list[float]]:
        """Mean Dice of every class on the network's grid, and the seconds that the networks took for each case."""
        count, spent = len(self.class_names), [0.0] * len(self.scored)
        metric = DiceMetric(include_background=False, reduction="mean_batch", num_classes=count)

        def scores(x: torch.Tensor, *_, **__) -> torch.Tensor:
            began = clock()
            parts = [part.as_subclass(torch.Tensor).float().numpy() for part in x.split(1)]
            made = [torch.stack([torch.from_numpy(run(part)[0]) for run in runs]).mean(0) for part in parts]
            spent[number] += clock() - began
            return torch.cat(made)

        for number in range(len(self.scored)):
            case = self.scored[number]
            labels = labels_of(self.inferer(case["image"][None], scores).as_subclass(torch.Tensor))[:, None]
            truth = case["label"].as_subclass(torch.Tensor)[None]
            metric(one_hot(labels, count), one_hot(truth, count))
        values = metric.get_buffer().nanmean(0).tolist()  # NaN for a class that no case has
        return {name: value for name, value in zip(self.class_names[1:], values) if value == value}, spent


def mean_of(dice: dict[str, float]) -> float:
    return sum(dice.values()) / len(dice)
