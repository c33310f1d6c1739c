"""Saving and loading: the best model, the last states of a run, and what travels with the weights."""

import logging
import math
from pathlib import Path

import torch.distributed as dist
from ignite.engine import Engine, Events

from scripts.core.errors import UserError
from scripts.core.processes import is_main_process
from scripts.training.checkpoint_files import (
    clean_up_after_kill,
    newest_readable,
    read_checkpoint,
    rename_previous,
    write_checkpoint,
)
from scripts.training.fingerprint import changes, fingerprint
from scripts.training.weights import compare_classes, load_strictly, unwrapped

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
        ranges: what the training labels span (`scripts.data.plausibility.training_ranges`), kept with the weights.
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
            self.load(trainer, *newest_readable(found, ["info", "scaler", "best", "epoch", *self.parts]))
            if is_main_process():
                for name in ("model.pt", *STATES):
                    clean_up_after_kill(self.dir / name)
                self.look_after_the_best()
        elif is_main_process():
            if self.resume:
                logger.info(f"nothing to resume: no {self.dir / STATES[0]}, the run starts at epoch 1")
            for name in (*STATES, "model.pt"):
                clean_up_after_kill(self.dir / name)
                rename_previous(self.dir / name)

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
            rename_previous(file)
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
                write_checkpoint({"model": unwrapped(self.averaged).state_dict(), "info": info}, self.dir / "model.pt")
            parts = {name: part.state_dict() for name, part in self.parts.items()}
            scaler = trainer.scaler.state_dict() if trainer.scaler is not None else {}
            model = {"model": unwrapped(self.network).state_dict(), "info": info}
            state = {**model, **parts, "scaler": scaler, "best": self.best, "epoch": epoch}
            last, previous = (self.dir / name for name in STATES)
            if self.resumed_from == previous:  # what lies at last.pt, if anything, must not replace a whole state
                rename_previous(last)
                self.resumed_from = last
            write_checkpoint({**state, "fingerprint": self.fingerprint}, last, previous)
        self.saved_epoch = epoch

    def finish(self, trainer: Engine) -> None:
        if is_main_process():
            best = f"best {self.key_metric} {self.best['score']:.4f} at epoch {self.best['epoch']}"
            logger.info(
                f"finished at epoch {trainer.state.epoch}: {'its own' if self.keep_last else f'{best},'} weights in "
                f"{self.dir / 'model.pt'}"
            )
