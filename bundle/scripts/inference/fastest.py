"""The fastest way to compute a network on this machine, of those that are installed: timed once, and remembered.

`configs/fast.json` names `FastestInferer`.
"""

import logging
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import nn

from scripts.core.errors import UserError, one_line_reason
from scripts.core.files import read_json, write_json
from scripts.inference.openvino import FOLDER, OpenVinoInferer, digest_of, is_missing, load_openvino, unwatched
from scripts.networks.bfloat16 import HalfInferer

logger = logging.getLogger(__name__)

KEPT = "fastest.json"  # what was timed, in the folder of converted networks
REPEATS = 2
AGREEING = 0.99  # share of the foreground whose label must stay the same
PLAIN = "PyTorch"
INT8 = "OpenVINO in int8"  # its Dice was compared when it was made
Scores = Callable[[torch.Tensor], torch.Tensor]


class FastestInferer(Inferer):
    """Runs a network with PyTorch or with OpenVINO, whichever takes less time for inputs of this size.

    Where OpenVINO is not installed, or on a GPU, nothing is timed. It has the arguments of
    `scripts.networks.bfloat16.HalfInferer`, whose place it takes.

    Args:
        enabled: whether bfloat16 may be used.
        inferer: an inferer of MONAI that calls the network; by default once, on the complete input.
        frozen: whether the network will not be trained any more.
        ckpt_dir: folder of the weights, beside which the choice is kept.
        int8: must be False: a network in int8 takes part if there is one, and is used if it is the fastest.

    Raises:
        UserError: int8 is asked for.
    """

    def __init__(
        self,
        enabled: bool,
        inferer: Inferer | None = None,
        frozen: bool = True,
        ckpt_dir: str = "models",
        int8: bool = False,
    ):
        super().__init__()
        if int8:
            raise UserError(
                "int8 is True, but configs/fast.json takes int8 only where it is fastest; leave one of the two out"
            )
        self.half, self.inferer, self.frozen, self.ckpt_dir = enabled, inferer or SimpleInferer(), frozen, ckpt_dir
        self.file = Path(ckpt_dir) / FOLDER / KEPT
        self.plain = HalfInferer(enabled, self.inferer, frozen)
        self.possible: dict[tuple, tuple[dict[str, Scores], str]] = {}  # until one is chosen, with the name of the case
        self.chosen: dict[tuple, Scores] = {}

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args, **kwargs) -> torch.Tensor:
        trained = any(layer.training for layer in network.modules())  # as by looks with dropout
        if trained or inputs.device.type != "cpu" or is_missing():
            return self.plain(inputs, network, *args, **kwargs)

        def fastest(x: torch.Tensor, *given, **named) -> torch.Tensor:
            return self.way_for(x, network)(x)

        return self.inferer(inputs, fastest, *args, **kwargs)

    def way_for(self, x: torch.Tensor, network: nn.Module) -> Scores:
        """The way that was chosen for inputs of this size, in this run or an earlier one, or that is chosen now. Where
        the network finds nothing, no way can be told from another: these scores stand, and the next input decides."""
        key = network, tuple(x.shape[1:])
        if key in self.chosen:
            return self.chosen[key]
        if key not in self.possible:
            ways = self.ways(network, x[:1])
            self.possible[key] = ways, " ".join(map(str, [
                digest_of(network)[:16], "x".join(map(str, x.shape[1:])), f"{torch.get_num_threads()} threads",
                f"torch {torch.__version__}", f"OpenVINO {load_openvino().__version__}", *sorted(ways),
            ]))  # fmt: skip
        (ways, case), known = self.possible[key], read_kept(self.file)
        if known.get(case) not in ways:
            scores = ways[PLAIN](x)
            seen = labels_of(scores).flatten(1).any(1)
            if not seen.any():
                return lambda _: scores
            known[case] = self.choose(ways, x[seen][:1])
            self.remember(known)
        del self.possible[key]
        self.chosen[key] = ways[known[case]]
        return self.chosen[key]

    def choose(self, ways: dict[str, Scores], example: torch.Tensor) -> str:
        times = measure(ways, example)
        fastest = min(times, key=lambda name: times[name])
        found = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in times.items())
        logger.info(f"the network runs with {fastest}, the fastest way here ({found}), which is remembered")
        return fastest

    def remember(self, known: dict[str, str]) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_json(known, self.file)
        except (OSError, UserError) as error:
            logger.info(f"{self.file}: not kept ({one_line_reason(error)})")

    def ways(self, network: nn.Module, example: torch.Tensor) -> dict[str, Scores]:
        """By name; the first one is what the others are compared with. None is seen by those who watch the network, so
        that it does not matter which image it is chosen on."""
        plain, precise = unwatched(network), OpenVinoInferer(False, ckpt_dir=self.ckpt_dir)
        found: dict[str, Scores] = {PLAIN: plain, "OpenVINO": lambda x: precise.scores(x, network)}
        if self.half:
            copy, rough = deepcopy(plain), OpenVinoInferer(True, ckpt_dir=self.ckpt_dir)  # the copy's layout changes
            half = HalfInferer(True, frozen=self.frozen)
            found["PyTorch in bfloat16"] = lambda x: half(x, copy)
            found["OpenVINO in bfloat16"] = lambda x: rough.scores(x, network)
        whole = OpenVinoInferer(False, ckpt_dir=self.ckpt_dir, int8=True)
        if whole.has(network, example):
            found[INT8] = lambda x: whole.scores(x, network)
        return found


def measure(ways: dict[str, Scores], example: torch.Tensor) -> dict[str, float]:
    """Seconds of each way that gives the labels of the first one, or whose Dice is known to be as good."""
    times: dict[str, float] = {}
    expected: torch.Tensor | None = None
    for name, run in ways.items():
        try:
            labels = labels_of(run(example))
            expected = labels if expected is None else expected
            either = (labels > 0) | (expected > 0)
            agreeing = float((labels == expected)[either].float().mean())
            if agreeing < AGREEING and name != INT8:
                logger.info(f"{name}: not used, only {agreeing:.1%} of the foreground has the same label")
                continue
            began = time.perf_counter()
            for _ in range(REPEATS):
                run(example)
            times[name] = (time.perf_counter() - began) / REPEATS
        except Exception as error:
            if expected is None:
                raise
            logger.info(f"{name}: not used ({one_line_reason(error)})")
    return times


def labels_of(scores: torch.Tensor) -> torch.Tensor:
    """Of one map of scores, where it is above 0; of several, which is the largest."""
    return (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(1)


def read_kept(file: Path) -> dict[str, str]:
    try:
        found = read_json(file)
        return found if isinstance(found, dict) else {}
    except Exception:  # it is made anew
        return {}
