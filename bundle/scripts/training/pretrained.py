"""Training from given weights: what fits is copied into the network, what does not starts afresh.

Tensors belong together by name. The channels that stand for classes are matched by the names of the classes; those
that stand for channels of the image, by their number.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from torch import nn

from scripts.core.errors import UserError
from scripts.core.processes import is_main_process
from scripts.networks.encoders import tensor_names
from scripts.networks.growth import growing_axes
from scripts.run.configuration import current_parser
from scripts.training.checkpoint_files import sha256
from scripts.training.weights import Weights, origin, read_weights

logger = logging.getLogger(__name__)

SHOWN = 6  # names of tensors in a message
REPLACED = ("model.pt", "last.pt", "last.previous.pt")  # files that a training writes

Axes = Mapping[str, tuple[int, ...]]  # of the tensors that have any, by name
Pairs = list[tuple[int, int]]  # an index in the network and the one in the file that belongs to it


@dataclass
class Copied:
    """What has become of the network's tensors, by name, and what of the file was of no use."""

    whole: list[str] = field(default_factory=list)
    part: list[str] = field(default_factory=list)
    afresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        words = [f"{len(self.whole)} of {len(self.whole + self.part + self.afresh)} tensors copied"]
        words += [f"{len(self.part)} in part ({shortened(self.part)})"] if self.part else []
        words += [f"{len(self.afresh)} start afresh{f' ({shortened(self.afresh)})' if self.afresh else ''}"]
        words += [f"{len(self.unused)} of the file not used ({shortened(self.unused)})"] if self.unused else []
        return ", ".join(words)


class Pretrained:
    """Fills a network with the weights of a file, as far as they fit, before the training sees it.

    It is a component of a configuration whose `network_def` is the network.

    Args:
        file: weights as training writes them, or a JSON file that lists several, of which the first is taken. None
            leaves the network as it is.
        network: the network that is trained.
        class_names: the classes of this training.
        ckpt_dir: folder of this training's checkpoints; the file must be none of those that it replaces.

    Raises:
        UserError: no such file, no readable weights, nothing in it fits, or a file that the training would replace.
    """

    def __init__(self, file: str | None, network: nn.Module, class_names: Sequence[str], ckpt_dir: str):
        self.digest: str | None = None  # of the weights: what a resumed run must have started from as well
        self.origin: str | None = None  # what they were trained on, in words
        if file is None:
            return
        given = read_given(Path(file), Path(ckpt_dir))
        self.digest = f"sha256 {sha256(given.files[0].read_bytes())[:12]}"
        self.origin = origin(given.info, 3)
        old = given.info.get("class_names")
        classes, why = find_axes(current_parser(), "out_channels")
        channels, _ = find_axes(current_parser(), "in_channels")
        if not classes and old not in (None, list(class_names)):
            raise UserError(
                f"{file}: trained for the classes {old}, asked for {list(class_names)}, which can't be matched, as it "
                f"is not known which weights of {type(network).__name__} belong to a class{why}; expected the same "
                "classes; give others with --class_names, or other weights with --pretrained"
            )
        copied = copy_weights(network, given.networks[0], classes, channels, old, list(class_names))
        refuse_nothing(network, copied, len(given.networks[0]), Path(file))
        if is_main_process():
            for line in [*given.notes, *notes(given, classes, old, network, Path(file))]:
                logger.warning(line)
            logger.info(f"pretrained: {file}, trained on {self.origin}: {copied}")


def read_given(file: Path, ckpt_dir: Path) -> Weights:
    """The weights to start from, verified."""
    if not file.is_file():
        raise UserError(f"{file}: no such file; expected weights to start from; give another --pretrained, or none")
    found = read_weights(file)
    own = [(ckpt_dir / name).resolve() for name in REPLACED]
    if found.files[0].resolve() in own:
        raise UserError(
            f"{found.files[0]}: this training would replace the weights that it starts from; expected them in another "
            "folder; give another --ckpt_dir, or a copy of the file with --pretrained"
        )
    return found


def find_axes(parser: ConfigParser, argument: str) -> tuple[Axes, str]:
    """The axes of the network's tensors that grow with one of its arguments, and where none do, why that is so.

    Args:
        parser: of the configuration; its `network_def` is built anew.
        argument: `out_channels` or `in_channels`.
    """
    written = parser.config["network_def"]
    inside = isinstance(written, dict) and argument in written
    name = f"network_def::{argument}" if inside else argument

    def build(count: int) -> nn.Module:
        changed = {"network_def": {**written, argument: count}} if inside else {argument: count}
        return ConfigParser({**parser.config, **changed}).get_parsed_content("network_def")

    try:
        return growing_axes(build, parser.ref_resolver.get_resolved_content(name)), ""
    except Exception as error:  # a network of the user's own may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return {}, f" ({reason[:120]})"


def copy_weights(
    network: nn.Module,
    weights: Mapping[str, torch.Tensor],
    class_axes: Axes,
    channel_axes: Axes,
    old_classes: Sequence[str] | None,
    new_classes: Sequence[str],
) -> Copied:
    """Copies into a network what fits.

    Args:
        network: it is changed in place.
        weights: state dict of the same or of a similar network.
        class_axes, channel_axes: axes that stand for classes, and for channels of the image.
        old_classes, new_classes: names of the classes in the weights, None where they are not known, and here.
    """
    copied, own = Copied(), network.state_dict()
    for name in tensor_names(network):
        given = weights.get(name)
        if given is None or given.ndim != own[name].ndim:
            copied.afresh.append(name)
            continue

        def along(axis: int, size: int, before: int, name: str = name) -> Pairs:
            if axis in class_axes.get(name, ()):
                return match_classes(old_classes, new_classes, before, size)
            if axis in channel_axes.get(name, ()):
                return same(min(size, before))
            return same(size) if size == before else []

        shapes = zip(own[name].shape, given.shape, strict=True)
        pairs = [along(axis, size, before) for axis, (size, before) in enumerate(shapes)]
        if not all(pairs):
            copied.afresh.append(name)
            continue
        put(own[name], given, pairs)
        is_whole = all(len(found) == size for found, size in zip(pairs, own[name].shape, strict=True))
        (copied.whole if is_whole else copied.part).append(name)
    copied.unused = [name for name in weights if name not in own]
    return copied


def same(count: int) -> Pairs:
    return [(index, index) for index in range(count)]


def match_classes(old: Sequence[str] | None, new: Sequence[str], before: int, now: int) -> Pairs:
    """Which of the `now` channels of a network belongs to which of the `before` channels of a file, by class name.

    Without names, channels belong together by position, if there are as many of them.
    """
    olds, news = channel_names(old, before), channel_names(new, now)
    if olds is None or news is None:
        return same(now) if now == before else []
    return [(index, olds.index(name)) for index, name in enumerate(news) if name in olds]


def channel_names(classes: Sequence[str] | None, count: int) -> list[str] | None:
    """The class of each of `count` channels; a single one is the foreground of two classes."""
    if classes is not None and len(classes) == count:
        return list(classes)
    return [classes[1]] if classes is not None and len(classes) == 2 and count == 1 else None


def put(own: torch.Tensor, given: torch.Tensor, pairs: list[Pairs]) -> None:
    """Copies parts of a tensor, whose places are given for each axis."""
    chosen = given
    for axis, found in enumerate(pairs):
        chosen = chosen.index_select(axis, torch.tensor([before for _, before in found], device=given.device))
    places = [
        torch.tensor([now for now, _ in found]).view(-1, *[1] * (own.ndim - axis - 1))
        for axis, found in enumerate(pairs)
    ]
    with torch.no_grad():
        if places:
            own[tuple(places)] = chosen.to(own)
        else:  # a counter
            own.copy_(chosen)


def notes(given: Weights, classes: Axes, old: list[str] | None, network: nn.Module, file: Path) -> list[str]:
    """What a user should be told beside what was copied."""
    lines = []
    if len(given.networks) > 1:
        lines.append(f"{file}: holds {len(given.networks)} networks; training starts from the first")
    if old is None:
        count, now = (outputs(weights, classes) for weights in (given.networks[0], network.state_dict()))
        fate = "taken to be the same, in the same order" if count == now else f"{count}, not {now}: they start afresh"
        lines.append(f"{file}: its class names are not known; its classes are {fate}")
    return lines


def outputs(weights: Mapping[str, torch.Tensor], classes: Axes) -> int | None:
    """How many channels for classes weights have; None where they have no such tensor."""
    known = [(weights[name].shape, axes[0]) for name, axes in classes.items() if name in weights]
    return next((shape[axis] for shape, axis in known if len(shape) > axis), None)


def refuse_nothing(network: nn.Module, copied: Copied, count: int, file: Path) -> None:
    """Refuses a file of which no weight fits; a counter, which has the same form everywhere, is no weight."""
    own = network.state_dict()
    if not any(own[name].is_floating_point() for name in copied.whole + copied.part):
        raise UserError(
            f"{file}: none of its {count} tensors fits {type(network).__name__}; expected weights of such a network "
            f"(found {shortened(copied.unused) or 'other sizes'}); give the network settings of its training, or "
            "another --pretrained"
        )


def shortened(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
