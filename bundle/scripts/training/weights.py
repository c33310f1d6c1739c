"""Trained weights: which file they are in, what they were trained on, and how they get into a network."""

import logging
from pathlib import Path

import torch

from scripts.core.errors import UserError
from scripts.training.checkpoint_files import digest_file, digests, read_checkpoint

logger = logging.getLogger(__name__)


def find_weights(ckpt_dir: str, shipped: str | None = None) -> str:
    """The trained `model.pt` of a folder, or else the weights that a recipe brings along."""
    trained = Path(ckpt_dir) / "model.pt"
    use_shipped = shipped and not trained.is_file() and (Path(ckpt_dir) / shipped).is_file()
    return str(Path(ckpt_dir) / shipped if use_shipped else trained)


def load_weights(path: str, network: torch.nn.Module | list[torch.nn.Module], class_names: list[str]) -> None:
    """Fills one network, or as many as a checkpoint holds, strictly, and says what they were trained on.

    Raises:
        UserError: no file there, not a whole checkpoint, other classes, another network.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(
            f"{file}: no weights there yet; make them with `python -m monai.bundle run training --config_file "
            "configs/train.json --dataset_dir DIR`, or name a folder that holds a model.pt with --ckpt_dir"
        )
    saved = read_checkpoint(file)
    if not digests(file):
        logger.warning(f"{file}: no {digest_file(file).name} beside it; that it is whole is taken on trust")
    compare_classes(saved, class_names, file, "--weights_file")
    states = [saved["model"], *saved.get("more", [])]
    for member, weights in zip(network if isinstance(network, list) else [network], states):
        load_strictly(member, weights, file)
    info = saved.get("info", {})
    logger.info(
        f"weights: {file}{f', {len(states)} networks' if len(states) > 1 else ''}, "
        f"trained on {info.get('trained_on', 'unknown data')}"
        + (f" (epoch {info['epoch']}, validation Dice {info['score']:.3f})" if info.get("score", -1) >= 0 else "")
    )


def compare_classes(saved: dict, class_names: list[str], file: Path, knob: str = "--ckpt_dir") -> None:
    trained = saved.get("info", {}).get("class_names")
    if trained is None:
        logger.warning(f"{file}: carries no class names; they are taken on trust")
    elif list(trained) != list(class_names):
        raise UserError(
            f'{file}: trained for the classes {trained}, asked for {list(class_names)}; say --class_names "{trained}", '
            f"or name others with {knob}"
        )


def load_strictly(network: torch.nn.Module, weights: dict, file: Path) -> None:
    try:
        unwrapped(network).load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"{file}: weights of another network ({str(error).splitlines()[1].strip()[:120]}); "
            "give the same patches and network settings as in its training"
        ) from error


def unwrapped(network: torch.nn.Module) -> torch.nn.Module:
    return network.module if isinstance(network, torch.nn.parallel.DistributedDataParallel) else network
