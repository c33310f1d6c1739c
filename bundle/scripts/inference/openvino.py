"""Computing networks with OpenVINO, which is faster than PyTorch on processors. Nothing is trained with it.

`configs/openvino.json` names `OpenVinoInferer`.
"""

import hashlib
import importlib.util
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from monai.inferers import Inferer, SimpleInferer
from monai.utils import convert_to_dst_type
from torch import nn

from scripts.core.describe import settings_text
from scripts.core.errors import UserError, one_line_reason
from scripts.core.extras import require
from scripts.core.files import flush, replace_file
from scripts.inference.ensemble import Ensemble, single_networks

logger = logging.getLogger(__name__)

EXTRA, PURPOSE = "openvino", "configs/openvino.json"
FOLDER = ".openvino"  # beside the weights


class OpenVinoInferer(Inferer):
    """Runs a network with OpenVINO, on as many threads as PyTorch has, and returns its scores in float32.

    A network is converted once for each size of its input, and kept in `.openvino` beside the weights, named by what it
    was made of. It has the arguments of `scripts.networks.bfloat16.HalfInferer`, whose place it takes.

    Args:
        enabled: whether to compute in bfloat16.
        inferer: an inferer of MONAI that calls the network; by default once, on the complete input.
        frozen: not used; an argument of `HalfInferer`.
        ckpt_dir: folder of the weights.
        int8: whether to use the networks in whole numbers of eight bits that `quantise.py` has left there.
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
        self.half, self.inferer, self.int8 = enabled, inferer or SimpleInferer(), int8
        self.folder = Path(ckpt_dir) / FOLDER
        self.digests: dict[nn.Module, str] = {}
        self.compiled: dict[tuple, Callable] = {}
        load_openvino()

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args, **kwargs) -> torch.Tensor:
        if any(layer.training for layer in network.modules()):  # looks with dropout
            return self.inferer(inputs, network, *args, **kwargs)

        def converted(x: torch.Tensor, *given, **named) -> torch.Tensor:
            return self.scores(x, network)

        return self.inferer(inputs, converted, *args, **kwargs)

    def scores(self, x: torch.Tensor, network: nn.Module) -> torch.Tensor:
        """Of a batch; each image by itself, so that one conversion serves all batches."""
        if isinstance(network, Ensemble):
            return torch.stack([self.scores(x, member) for member in network.members]).mean(0)
        key = network, tuple(x.shape[1:]), torch.get_num_threads()
        if key not in self.compiled:
            self.compiled[key] = self.compile(network, x[:1])
        run = self.compiled[key]
        made = [run(np.ascontiguousarray(one.detach().float().cpu().numpy()))[0] for one in x.split(1)]
        return convert_to_dst_type(np.concatenate(made), x, dtype=torch.float32)[0]

    def compile(self, network: nn.Module, example: torch.Tensor) -> Callable:
        """The network, ready to run on inputs of the size of the example."""
        size, file = size_of(example), self.file(network, example)
        model = read_kept(file)
        if model is None and self.int8:
            raise UserError(
                f"{file.parent}: no int8 network of these weights for inputs of {size}; make one with "
                "configs/quantise.json, or leave out --int8"
            )
        if model is None:
            logger.info(f"converting the network for OpenVINO, once for inputs of {size} ...")
            model = convert(network, example)
            try:
                keep(model, file)
            except UserError as error:
                logger.info(f"{error}; the next run converts the network again")
        return compiled(model, self.half)

    def file(self, network: nn.Module, example: torch.Tensor) -> Path:
        """Where a network is kept for inputs of the size of the example."""
        if network not in self.digests:
            self.digests[network] = digest_of(network)
        version = load_openvino().__version__.split("-")[0]
        kind = "_int8" if self.int8 else ""
        return self.folder / f"{self.digests[network][:16]}_{size_of(example)}_{version}{kind}.xml"

    def has(self, network: nn.Module, example: torch.Tensor) -> bool:
        """Whether a network is kept already."""
        return all(self.file(member, example).is_file() for member in single_networks(network))


def size_of(example: torch.Tensor) -> str:
    return "x".join(map(str, example.shape[1:]))


def compiled(model, half: bool = False) -> Callable:
    """A model of OpenVINO, ready to run on as many threads as PyTorch has."""
    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        "NUM_STREAMS": 1,
    }
    return core().compile_model(model, "CPU", options)


def is_missing() -> bool:
    """Whether the package is not installed."""
    return importlib.util.find_spec(EXTRA) is None


def load_openvino() -> ModuleType:
    """The package, without the part that would report its use to its makers over the network.

    Raises:
        UserError: it is not installed.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return require("openvino", EXTRA, PURPOSE)


@cache
def core():
    """The one core of this process. Each sets a stack for signals (2026.4, Linux) and frees it when it ends, although
    signals still go there: with a second one, the end of any child process would end this one."""
    return load_openvino().Core()


def digest_of(network: nn.Module) -> str:
    """The sha256 of the network's structure, its settings and weights."""
    found = hashlib.sha256(f"{network}{settings_text(network)}".encode())
    for name, weights in network.state_dict().items():
        found.update(name.encode())
        found.update(weights.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def convert(network: nn.Module, example: torch.Tensor):
    """The network as a model of OpenVINO, for inputs of the size of the example."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # sizes become constants, as they are meant to
        traced = torch.jit.trace(unwatched(network), example.as_subclass(torch.Tensor), check_trace=False)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=example)  # has to live as long as the next line
    model = frontend.convert(frontend.load(decoder))
    model.reshape(list(example.shape))
    return model


def unwatched(network: nn.Module) -> nn.Module:
    """A copy of a network without the hooks of those who watch it, for calls that are no part of the result."""
    copy = deepcopy(network)
    for layer in copy.modules():
        layer._forward_hooks.clear()
    return copy


def keep(model, file: Path) -> None:
    """Writes a converted network, complete or not at all.

    Raises:
        UserError: it can't be written.
    """
    import openvino

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            made = Path(folder) / file.name
            openvino.save_model(model, made, compress_to_fp16=False)
            for ending in (".bin", ".xml"):  # the file that is looked for comes last
                flush(made.with_suffix(ending))
                replace_file(made.with_suffix(ending), file.with_suffix(ending))
    except (OSError, RuntimeError) as error:  # OpenVINO's own errors are of the latter kind
        raise UserError(f"{file}: the converted network is not kept ({one_line_reason(error)})") from error


def read_kept(file: Path):
    """A network that `keep` has written; None if it is not there or damaged."""
    try:
        return core().read_model(file) if file.is_file() else None
    except RuntimeError as error:
        logger.warning(f"{file}: not readable ({one_line_reason(error)}), so it counts as missing")
        return None
