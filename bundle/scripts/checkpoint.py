"""Saving and loading: the best model, the last states of a run, and what travels with the weights."""

import logging
import math
from pathlib import Path

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from scripts.checkpoint_files import digest_file, digests, newest_whole, read_checkpoint, set_aside, settle, write
from scripts.errors import UserError
from scripts.fingerprint import changes, fingerprint

logger = logging.getLogger(__name__)

STATES = ("last.pt", "last.previous.pt")  # the newer one first


class Checkpoints:
    """Keeps `model.pt` (the best network, or the last) and `last.pt` (all that a run needs to go on), to resume from.

    It is attached to the trainer after the schedule, the validation and the history, so that a saved epoch is a whole
    one. The state before the last stays as `last.previous.pt`; a run resumes from the newer one that is whole. What an
    earlier run left in the folder is moved aside, never overwritten, unless this run goes on from it.

    Args:
        ckpt_dir: folder of these files.
        network: that is trained, kept in `last.pt`.
        optimizer: its state is kept in `last.pt`.
        lr_scheduler: likewise.
        evaluator: validation engine; `key_metric` is read from its state.
        key_metric: name of the metric to maximise.
        class_names: kept with the weights, compared when they are loaded.
        trained_on: one line on the training data, kept with the weights.
        ranges: what the training labels span (`scripts.plausibility.ranges`), kept with the weights.
        states: further objects with `state_dict` and `load_state_dict`, by name.
        resume: go on from the last state where there is one.
        settings: the knobs that shape the training, by name; a resumed run must have the same.
        kinds: likewise what the training is built of, by name.
        data: likewise the cases, with lists `training` and `validation`.
        resume_changed: go on though settings or data are others now.
        keep_last: `model.pt` is of the last epoch, whatever validation says.
        averaged: what `model.pt` takes in place of the network: an average of its weights, kept in `last.pt` as well.
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
        settings=None,
        kinds=None,
        data=None,
        resume_changed=False,
        keep_last=False,
        averaged=None,
    ):
        self.dir = Path(ckpt_dir)
        self.network, self.averaged = network, network if averaged is None else averaged
        self.parts = {"optimizer": optimizer, "lr_scheduler": lr_scheduler, **states}
        if unwrapped(self.averaged) is not unwrapped(network):
            self.parts["averaged"] = averaged
        self.keep_last = keep_last
        self.evaluator = evaluator
        self.key_metric = key_metric
        self.info = {"class_names": list(class_names), "trained_on": str(trained_on), "ranges": ranges}
        self.resume = resume
        self.settings = dict(settings or {})
        processes = {"processes": dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1}
        self.fingerprint = fingerprint(unwrapped(network), data or {}, {**self.settings, **(kinds or {}), **processes})
        self.resume_changed = resume_changed
        self.best = {"epoch": 0, "score": -1.0}
        self.saved_epoch = 0  # the newest epoch on disk, 0 for none
        self.resumed_from: Path | None = None

    def attach(self, trainer: Engine) -> None:
        trainer.add_event_handler(Events.STARTED, self.begin)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        trainer.add_event_handler(Events.COMPLETED, self.finish)

    def begin(self, trainer: Engine) -> None:
        found = [self.dir / name for name in STATES if (self.dir / name).is_file()]
        if self.resume and found:
            self.load(trainer, *newest_whole(found, ["info", "scaler", "best", "epoch", *self.parts]))
            if is_main_process():
                for name in ("model.pt", *STATES):
                    settle(self.dir / name)
                self.look_after_the_best()
        elif is_main_process():
            if self.resume:
                logger.info(f"nothing to resume: no {self.dir / STATES[0]}, the run starts at epoch 1")
            for name in (*STATES, "model.pt"):
                settle(self.dir / name)
                set_aside(self.dir / name)

    def load(self, trainer: Engine, last: Path, saved: dict) -> None:
        """Restores weights, optimiser, schedule, history, best score and epoch."""
        compare_classes(saved, self.info["class_names"], last)
        self.compare_run(saved, last)
        load_strictly(self.network, saved["model"], last)
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        if saved["scaler"] and trainer.scaler is not None:
            trainer.scaler.load_state_dict(saved["scaler"])
        self.best = saved["best"]
        self.resumed_from = last
        self.saved_epoch = trainer.state.epoch = saved["epoch"]
        trainer.state.iteration = saved["epoch"] * trainer.state.epoch_length
        logger.info(
            f"resumed from {last} after epoch {saved['epoch']}, "
            f"best {self.key_metric} {self.best['score']:.4f} at epoch {self.best['epoch']}"
        )

    def compare_run(self, saved: dict, last: Path) -> None:
        """Refuses to go on as another run than the one that was saved."""
        if "fingerprint" not in saved:
            logger.warning(f"{last}: does not say which settings and data it was trained with; they are taken on trust")
            return
        changed = changes(saved["fingerprint"], self.fingerprint)
        if changed and not self.resume_changed:
            raise UserError(
                f"{last}: of another run: {'; '.join(changed)}. Give what was, say --resume_changed True to go on with "
                "what is, or leave out --resume to start anew"
            )
        if changed:
            logger.warning(
                f"resumed with changes: {'; '.join(changed)}; the optimizer and the schedule keep the rates they had"
            )

    def look_after_the_best(self) -> None:
        """Lets the next epoch become the best where the best one so far is lost."""
        file = self.dir / "model.pt"
        if self.best["epoch"] == 0:
            return
        try:
            if not file.is_file():
                raise UserError(f"{file}: not there")
            read_checkpoint(file)
        except UserError as error:
            logger.warning(
                f"the weights of epoch {self.best['epoch']} are lost, the best from here on is kept: {error}"
            )
            set_aside(file)
            self.best = {"epoch": 0, "score": -1.0}

    def save(self, trainer: Engine) -> None:
        epoch = trainer.state.epoch
        validated = self.evaluator.state.epoch == epoch
        score = float(self.evaluator.state.metrics.get(self.key_metric, float("nan"))) if validated else float("nan")
        better = self.keep_last or score > self.best["score"]  # never greater where it is NaN
        if better:
            self.best = {"epoch": epoch, "score": -1.0 if math.isnan(score) else score}
        if is_main_process():
            info = {**self.info, **self.best}
            if better:
                write({"model": unwrapped(self.averaged).state_dict(), "info": info}, self.dir / "model.pt")
            parts = {name: part.state_dict() for name, part in self.parts.items()}
            scaler = trainer.scaler.state_dict() if trainer.scaler is not None else {}
            model = {"model": unwrapped(self.network).state_dict(), "info": info}
            state = {**model, **parts, "scaler": scaler, "best": self.best, "epoch": epoch}
            last, previous = (self.dir / name for name in STATES)
            if self.resumed_from == previous:  # what lies at last.pt, if anything, must not replace a whole state
                set_aside(last)
                self.resumed_from = last
            write({**state, "fingerprint": self.fingerprint}, last, previous)
        self.saved_epoch = epoch

    def finish(self, trainer: Engine) -> None:
        if is_main_process():
            best = f"best {self.key_metric} {self.best['score']:.4f} at epoch {self.best['epoch']}"
            logger.info(
                f"finished at epoch {trainer.state.epoch}: {'its own' if self.keep_last else f'{best},'} weights in "
                f"{self.dir / 'model.pt'}"
            )


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


def is_main_process() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
