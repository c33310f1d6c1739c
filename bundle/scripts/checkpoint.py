"""Saving and loading: the best model, the last state of a run, and what travels with the weights."""

import logging
from pathlib import Path

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from scripts.errors import UserError
from scripts.files import set_aside, whole

logger = logging.getLogger(__name__)


class Checkpoints:
    """Keeps `model.pt` (the best network) and `last.pt` (all that a run needs to go on), and resumes from the latter.

    It is attached to the trainer after the schedule, the validation and the history, so that a saved epoch is a whole
    one. What an earlier run left in the folder is moved aside, never overwritten, unless this run goes on from it.

    Args:
        ckpt_dir: folder of both files.
        network: saved under the key `model`.
        optimizer: its state is kept in `last.pt`.
        lr_scheduler: likewise.
        evaluator: validation engine; `key_metric` is read from its state.
        key_metric: name of the metric to maximise.
        class_names: kept with the weights, compared when they are loaded.
        trained_on: one line on the training data, kept with the weights.
        ranges: what the training labels span (`scripts.plausibility.ranges`), kept with the weights.
        states: further objects with `state_dict` and `load_state_dict`, by name.
        resume: go on from `last.pt` where there is one.
    """

    def __init__(
        self,
        ckpt_dir,
        network,
        optimizer,
        lr_scheduler,
        evaluator,
        key_metric,
        class_names,
        trained_on,
        ranges,
        states,
        resume,
    ):
        self.dir = Path(ckpt_dir)
        self.network = network
        self.parts = {"optimizer": optimizer, "lr_scheduler": lr_scheduler, **states}
        self.evaluator = evaluator
        self.key_metric = key_metric
        self.info = {"class_names": list(class_names), "trained_on": str(trained_on), "ranges": ranges}
        self.resume = resume
        self.best = {"epoch": 0, "score": -1.0}

    def attach(self, trainer: Engine) -> None:
        trainer.add_event_handler(Events.STARTED, self.begin)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        trainer.add_event_handler(Events.COMPLETED, self.finish)

    def begin(self, trainer: Engine) -> None:
        last = self.dir / "last.pt"
        if self.resume and last.is_file():
            self.load(trainer, last)
        elif is_main_process():
            if self.resume:
                logger.info(f"nothing to resume: no {last}, the run starts at epoch 1")
            for name in ("model.pt", "last.pt"):
                set_aside(self.dir / name)

    def load(self, trainer: Engine, last: Path) -> None:
        """Restores weights, optimiser, schedule, history, best score and epoch."""
        saved = read_checkpoint(last)
        compare_classes(saved, self.info["class_names"], last)
        load_strictly(self.network, saved["model"], last)
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        if saved["scaler"] and trainer.scaler is not None:
            trainer.scaler.load_state_dict(saved["scaler"])
        self.best = saved["best"]
        trainer.state.epoch = saved["epoch"]
        trainer.state.iteration = saved["epoch"] * trainer.state.epoch_length
        logger.info(
            f"resumed from {last} after epoch {saved['epoch']}, "
            f"best {self.key_metric} {self.best['score']:.4f} at epoch {self.best['epoch']}"
        )

    def save(self, trainer: Engine) -> None:
        epoch = trainer.state.epoch
        validated = self.evaluator.state.epoch == epoch
        score = float(self.evaluator.state.metrics.get(self.key_metric, float("nan"))) if validated else float("nan")
        better = score > self.best["score"]  # never true for NaN
        if better:
            self.best = {"epoch": epoch, "score": score}
        if not is_main_process():
            return
        model = {"model": unwrapped(self.network).state_dict(), "info": {**self.info, **self.best}}
        if better:
            write(model, self.dir / "model.pt")
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        scaler = trainer.scaler.state_dict() if trainer.scaler is not None else {}
        write({**model, **parts, "scaler": scaler, "best": self.best, "epoch": epoch}, self.dir / "last.pt")

    def finish(self, trainer: Engine) -> None:
        if is_main_process():
            logger.info(
                f"finished at epoch {trainer.state.epoch}: best {self.key_metric} {self.best['score']:.4f} at epoch "
                f"{self.best['epoch']}, weights in {self.dir / 'model.pt'}"
            )


def load_weights(path: str, network: torch.nn.Module, class_names: list[str]) -> None:
    """Fills `network` from a checkpoint, strictly, and says what it was trained on.

    Raises:
        UserError: no file there, not a checkpoint, other classes, another network.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(
            f"{file}: no weights there yet; make them with `python -m monai.bundle run training --config_file "
            "configs/train.json --dataset_dir DIR`, or name a folder that holds a model.pt with --ckpt_dir"
        )
    saved = read_checkpoint(file)
    compare_classes(saved, class_names, file)
    load_strictly(network, saved["model"], file)
    info = saved.get("info", {})
    logger.info(
        f"weights: {file}, trained on {info.get('trained_on', 'unknown data')}"
        + (f" (epoch {info['epoch']}, validation Dice {info['score']:.3f})" if "score" in info else "")
    )


def read_checkpoint(file: Path) -> dict:
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not, or not wholly, a checkpoint
        raise UserError(
            f"{file}: not a readable checkpoint ({type(error).__name__}); fetch or train it again"
        ) from error
    if not isinstance(saved, dict) or not isinstance(saved.get("model"), dict):
        raise UserError(
            f"{file}: holds no weights under the key 'model'; expected a checkpoint that this bundle's training wrote"
        )
    return saved


def compare_classes(saved: dict, class_names: list[str], file: Path) -> None:
    trained = saved.get("info", {}).get("class_names")
    if trained is None:
        logger.warning(f"{file}: carries no class names; they are taken on trust")
    elif list(trained) != list(class_names):
        raise UserError(
            f'{file}: trained for the classes {trained}, asked for {list(class_names)}; say --class_names "{trained}"'
        )


def load_strictly(network: torch.nn.Module, weights: dict, file: Path) -> None:
    try:
        unwrapped(network).load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"{file}: weights of another network ({str(error).splitlines()[1].strip()[:120]}); "
            "give the same patches and network settings as in its training"
        ) from error


def write(content: dict, file: Path) -> None:
    with whole(file) as partial:
        torch.save(content, partial)


def unwrapped(network: torch.nn.Module) -> torch.nn.Module:
    return network.module if isinstance(network, torch.nn.parallel.DistributedDataParallel) else network


def is_main_process() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
