"""`last.pt`: everything that a training needs to be resumed, saved after every epoch."""

import logging
from collections.abc import Mapping
from pathlib import Path

from ignite.engine import Engine, Events
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from scripts.core.errors import UserError
from scripts.core.kinds import bare
from scripts.core.processes import is_main_process, refuse_separate_folders
from scripts.training.best_model import BestModel
from scripts.training.checkpoint_files import (
    clean_up_after_kill,
    newest_readable,
    rename_previous,
    write_checkpoint,
)
from scripts.training.run_identity import RunIdentity
from scripts.training.weights import compare_classes, info_in, load_strictly

logger = logging.getLogger(__name__)

LAST, PREVIOUS = "last.pt", "last.previous.pt"
COUNTERS = ("last_epoch", "_step_count", "_last_lr")  # of a schedule


class Checkpoints:
    """Saves the training after every epoch, and resumes it.

    It is attached to the trainer after the schedule, the validation and the history, so that it saves complete epochs.
    The checkpoint before the last is kept as `last.previous.pt`; a run is resumed from the newer one that can be read.
    Files that an earlier run has left in the folder are renamed, never overwritten, unless they are resumed.

    Args:
        ckpt_dir: folder of the checkpoints.
        network: the network that is trained.
        parts: further objects with `state_dict` and `load_state_dict`, by name.
        best_model: keeps the weights of the best epoch.
        identity: refuses a checkpoint of a run with other settings or data.
        resume: True resumes the run whose checkpoint is in the folder, if there is one.
    """

    def __init__(
        self,
        ckpt_dir: str,
        network: nn.Module,
        parts: Mapping,
        best_model: BestModel,
        identity: RunIdentity,
        resume: bool = False,
    ):
        self.dir = Path(ckpt_dir)
        self.network = network
        # without an average of the weights, `averaged` is the network itself
        self.parts = {name: part for name, part in parts.items() if bare(part) is not bare(network)}
        self.best_model, self.identity, self.resume = best_model, identity, resume
        self.saved_epoch = 0  # the newest epoch on disk, 0 for none
        self.resumed_from: Path | None = None

    def attach(self, trainer: Engine) -> None:
        trainer.add_event_handler(Events.STARTED, self.begin)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        trainer.add_event_handler(Events.COMPLETED, self.finish)

    def begin(self, trainer: Engine) -> None:
        refuse_separate_folders(self.dir)
        files = [self.dir / name for name in (LAST, PREVIOUS)]
        found = [file for file in files if file.is_file()]
        if self.resume and found:
            self.load(trainer, *newest_readable(found, ["model", "info", "scaler", "best", "epoch"]))
            if is_main_process():
                for file in files:
                    clean_up_after_kill(file)
                self.best_model.reset_best_if_lost()
        elif is_main_process():
            if self.resume:
                logger.info(f"nothing to resume: no {files[0]}, the run starts at epoch 1")
            for file in files:
                clean_up_after_kill(file)
                rename_previous(file)
            self.best_model.start_anew()

    def load(self, trainer: Engine, file: Path, saved: dict) -> None:
        """Restores the weights, the optimizer, the schedule, the history, the best score and the epoch."""
        compare_classes(info_in(saved, file).get("class_names"), self.best_model.info["class_names"], file)
        changed = self.identity.compare(saved, file)
        if missing := [name for name in self.parts if name not in saved]:
            raise UserError(
                f"{file}: a run with these settings can't be resumed from it, it lacks {', '.join(missing)}; give the "
                "files and settings of the former run, or leave out --resume to start anew"
            )
        load_strictly(self.network, saved["model"], file)
        for name, part in self.parts.items():
            state = saved[name]
            if isinstance(part, LambdaLR) or (changed and isinstance(part, LRScheduler)):
                # where it stands; its shape is that of the present settings
                state = part.state_dict() | {key: state[key] for key in COUNTERS}
            if changed and isinstance(part, LRScheduler):  # an epoch may have another number of its steps now
                state["last_epoch"] = saved["epoch"] * self.schedule_steps(trainer)
            if changed and isinstance(part, Optimizer):
                state = with_present_settings(state, part.state_dict()["param_groups"])
            part.load_state_dict(state)
        if saved["scaler"] and trainer.scaler is not None:
            trainer.scaler.load_state_dict(saved["scaler"])
        self.best_model.load_state_dict(saved["best"])
        self.resumed_from = file
        self.saved_epoch = trainer.state.epoch = saved["epoch"]
        trainer.state.iteration = saved["epoch"] * trainer.state.epoch_length
        best = self.best_model.best
        known = not self.best_model.none_yet
        score = f"best score {best['score']:.4f} at epoch {best['epoch']}" if known else "no best epoch yet"
        logger.info(f"resumed from {file} after epoch {saved['epoch']}, {score}")

    def schedule_steps(self, trainer: Engine) -> int:
        """How often the schedule changes the rate in an epoch."""
        return 1 if self.identity.knobs.get("schedule_by_epoch", True) else trainer.state.epoch_length

    def save(self, trainer: Engine) -> None:
        epoch = trainer.state.epoch
        self.best_model.update(epoch)
        if is_main_process():
            content = {
                "model": bare(self.network).state_dict(),
                "info": self.best_model.info,
                **{name: part.state_dict() for name, part in self.parts.items()},
                "scaler": trainer.scaler.state_dict() if trainer.scaler is not None else {},
                "best": self.best_model.state_dict(),
                "epoch": epoch,
                "identity": self.identity.state_dict(),
            }
            last, previous = self.dir / LAST, self.dir / PREVIOUS
            if self.resumed_from == previous:  # last.pt could not be read; it must not replace a complete checkpoint
                rename_previous(last)
                self.resumed_from = last
            write_checkpoint(content, last, previous)
        self.saved_epoch = epoch

    def finish(self, trainer: Engine) -> None:
        if is_main_process():
            kept = self.best_model.summary()
            if self.best_model.best["epoch"] == 0:  # no score, or none that beats that of the start
                kept += f"; the weights of the last epoch are in {self.dir / LAST}"
            logger.info(f"finished at epoch {trainer.state.epoch}: {kept}")


def with_present_settings(saved: dict, groups: list[dict]) -> dict:
    """The saved state of an optimizer with the options of the present one; a rate stays as far along its schedule."""
    merged = []
    for was, now in zip(saved["param_groups"], groups, strict=True):
        share = was["lr"] / was["initial_lr"] if was.get("initial_lr") else 1.0
        merged.append({**now, "params": was["params"], "lr": now.get("initial_lr", now["lr"]) * share})
    return {**saved, "param_groups": merged}
