"""Trained weights: where they are found, how they are read and checked, and how a network is filled with them."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from scripts.core.errors import UserError
from scripts.core.kinds import bare
from scripts.core.processes import is_main_process
from scripts.training.checkpoint_files import parse_checkpoint, sha256
from scripts.training.weights_info import (
    NETWORKS,
    descriptions_of,
    info_file,
    is_text_list,
    matching,
    read_info,
    refuse_wrong_types,
)

logger = logging.getLogger(__name__)

MISMATCH = re.compile(r"size mismatch for (\S+): .*?Size\((\[[^]]*\])\).*?Size\((\[[^]]*\])\)")  # torch's words


@dataclass
class Weights:
    """What a file of weights holds.

    Args:
        networks: the state dict of each network; mostly there is one.
        info: what is known of them: `class_names`, `trained_on`, `spatial_size`, `ranges`, `epoch`, `score`; each may
            be missing.
        files: the files that the weights are in.
        notes: what a user should be told about the form of the files.
    """

    networks: list[dict]
    info: dict
    files: list[Path]
    notes: list[str]


def find_weights(ckpt_dir: str, shipped: str | None = None) -> str:
    """The trained `model.pt` of a folder, or else the weights that a recipe brings along."""
    if Path(ckpt_dir).is_file():
        raise UserError(
            f"{ckpt_dir}: ckpt_dir is a file, expected a folder with a model.pt; say --weights_file for a file"
        )
    trained = Path(ckpt_dir) / "model.pt"
    if shipped and not trained.is_file() and (Path(ckpt_dir) / shipped).is_file():
        return str(Path(ckpt_dir) / shipped)
    return str(trained)


def read_weights(path: str | Path) -> Weights:
    """Reads weights and what is known of them.

    Args:
        path: `model.pt`, or a JSON file that lists the weights of several networks.

    Raises:
        UserError: no file there, no readable weights, not the file that its description speaks of.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(
            f"{file}: no weights there yet; make them with `python -m monai.bundle run training --config_file "
            "configs/train.json --dataset_dir DIR`, or name a folder that holds a model.pt with --ckpt_dir"
        )
    return read_listed(file) if file.suffix == ".json" else read_single(file)


def read_listed(file: Path) -> Weights:
    """The networks that a JSON file lists, each verified by its sha256."""
    info = dict(read_info(file)[0])
    networks, files = [], []
    for entry in info.pop(NETWORKS):
        member = file.with_name(entry["file"])
        if not member.is_file():
            raise UserError(f"{member}: {file.name} lists it, but it is not there; fetch it again")
        data = member.read_bytes()
        content = parse_checkpoint(data, member)
        if (found := sha256(data)) != entry["sha256"]:
            raise UserError(mismatch(member, found, file.name))
        networks.append(state_dict_in(content, member))
        files.append(member)
    return Weights(networks, info, files, [])


def read_single(file: Path) -> Weights:
    """The weights of one file, verified if their description is beside them."""
    beside = info_file(file)
    known = descriptions_of(file)
    data = file.read_bytes()
    content = parse_checkpoint(data, file)
    notes = []
    if known:
        digest = sha256(data)
        # a training run may have replaced both files between the two lines above
        info = matching(known, file, digest) or matching(descriptions_of(file), file, digest)
        if info is None:
            raise UserError(mismatch(file, digest, beside.name))
        info = {key: value for key, value in info.items() if key != NETWORKS}
    else:
        info = {}
    if "optimizer" not in content and isinstance(content.get("model"), dict):
        notes.append(f"{file}: of an older version of this bundle, which kept the weights under the key 'model'")
    elif not known and "optimizer" not in content:
        notes.append(f"{file}: no {beside.name} beside it that describes it; its sha256 can't be verified")
    networks = [state_dict_in(content, file), *more_networks(content, file)]
    return Weights(networks, {**info_in(content, file), **info}, [file], notes)


def mismatch(file: Path, found: str, beside: str) -> str:
    return (
        f"{file}: its sha256 is {found[:16]}..., {beside} names another; one of the two files has changed since they "
        f"were written: fetch or train both again, or delete {beside} to use the weights without this check"
    )


def state_dict_in(content: dict, file: Path) -> dict:
    """The weights of a file: all of it, or those under the key `model` in `last.pt` and in older files."""
    weights = content["model"] if isinstance(content.get("model"), dict) else content
    wrong = next((name for name, value in weights.items() if not isinstance(value, torch.Tensor)), None)
    if wrong is not None or not weights:
        found = f"holds a {type(weights[wrong]).__name__} under the key {wrong!r}" if weights else "holds no weights"
        raise UserError(f"{file}: {found}, expected a state dict: names and tensors; fetch or train it again")
    return weights


def more_networks(content: dict, file: Path) -> list[dict]:
    """The further networks of a file of an older version, which kept them under the key `more`."""
    more = content.get("more", []) if isinstance(content.get("model"), dict) else []
    if not isinstance(more, list) or not all(isinstance(weights, dict) for weights in more):
        raise UserError(f"{file}: its key 'more' is no list of weights; fetch or train it again")
    return [state_dict_in(weights, file) for weights in more]


def info_in(content: dict, file: Path) -> dict:
    """What `last.pt` and files of older versions hold on their weights."""
    info = content.get("info", {}) if isinstance(content.get("model"), dict) else {}
    if not isinstance(info, dict):
        raise UserError(f"{file}: its key 'info' is a {type(info).__name__}, expected a dictionary; train it again")
    refuse_wrong_types(info, file)
    return info


def load_weights(
    path: str,
    network: torch.nn.Module | list[torch.nn.Module],
    class_names: list[str],
    spatial_size: Sequence[int] | None = None,
) -> None:
    """Fills one network, or as many as there are weights for, and says what they were trained on.

    Args:
        path: of the weights.
        network: one network, or several.
        class_names: the classes of this run.
        spatial_size: of this run; another one than in the training is warned of.

    Raises:
        UserError: no file there, no readable weights, weights for other classes or of another network.
    """
    file, found = Path(path), read_weights(path)
    for note in found.notes:
        logger.warning(note)
    compare_classes(found.info.get("class_names"), class_names, file, "--weights_file")
    trained = found.info.get("spatial_size")
    if spatial_size and trained and trained != list(spatial_size):
        logger.warning(
            f"{file}: trained with spatial_size {trained}, this run has {list(spatial_size)}, which mostly costs "
            f'accuracy; say --spatial_size "{trained}" for the same'
        )
    members = network if isinstance(network, list) else [network]
    if len(members) != len(found.networks):
        raise UserError(f"{file}: holds {len(found.networks)} networks, expected {len(members)}; name another file")
    for member, weights in zip(members, found.networks):
        load_strictly(member, weights, file)
    count = f", {len(found.networks)} networks" if len(found.networks) > 1 else ""
    if is_main_process():
        logger.info(f"weights: {file}{count}, trained on {origin(found.info, 3)}")


def origin(info: dict, digits: int) -> str:
    """What weights were trained on, in words: the data, the epoch, the validation Dice."""
    facts = [f"epoch {info['epoch']}"] if "epoch" in info else []
    facts += [f"validation Dice {info['score']:.{digits}f}"] if info.get("score", -1) >= 0 else []
    data = " ".join(info.get("trained_on", "unknown data").split())
    return f"{data} ({', '.join(facts)})" if facts else data


def compare_classes(trained: list[str] | None, class_names: list[str], file: Path, knob: str = "--ckpt_dir") -> None:
    """Refuses weights that were trained for other classes.

    Args:
        trained: the classes of the weights; None where they are not known, which is only warned of.
        class_names: the classes of this run.
        file: of the weights.
        knob: the option that names another file.
    """
    if trained is None:
        logger.warning(f"{file}: its class names are not known, so they can't be verified; check them yourself")
    elif not is_text_list(trained) or trained != list(class_names):
        raise UserError(
            f'{file}: trained for the classes {trained}, asked for {list(class_names)}; say --class_names "{trained}", '
            f"or name others with {knob}"
        )


def load_strictly(network: torch.nn.Module, weights: dict, file: Path) -> None:
    """Fills a network; refuses weights that do not fit it name by name and shape by shape."""
    try:
        bare(network).load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"{file}: weights of another network ({first_difference(str(error))}); "
            "give the same patches and network settings as in its training"
        ) from error


def first_difference(said: str) -> str:
    """The first reason why torch has not taken weights, in few words."""
    reason = said.splitlines()[1].strip()
    if shapes := MISMATCH.match(reason):
        name, there, here = shapes.groups()
        return f"{name} has the shape {there}, expected {here}"
    kind, _, names = reason.partition(":")
    name = names.partition(",")[0].strip(' ".')
    return f"it has no {name}" if kind.startswith("Missing") else f"found {name}, expected no such part"
