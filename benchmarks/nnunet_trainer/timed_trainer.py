"""nnU-Net's own trainer, ended by a clock. peer_nnunet.py starts it with nnU-Net's command.

nnU-Net finds this file by the environment variable nnUNet_extTrainer, which has the path of its folder.
"""

import csv
import os
import time
from pathlib import Path

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

MARKS = 4  # checkpoints that are kept, at equal distances; the last one is that of the end
SAVED_EVERY = 60  # seconds of training between the checkpoints that an interrupted training goes on from


class TimedTrainer(nnUNetTrainer):
    """Trains for PEER_SECONDS of training time, with the settings of nnU-Net.

    The learning rate falls by nnU-Net's polynomial, from its start to 0, with seconds in place of epochs. The clock
    counts the samples and the steps, but no saving and no start. There are no validations between, because they choose
    nothing here: `current_epoch` counts iterations. `clock.csv` has a row for each.
    """

    def configure_optimizers(self):
        optimizer, _ = super().configure_optimizers()
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, float(os.environ["PEER_SECONDS"]))

    def run_training(self):
        torch.set_num_threads(1)  # nnU-Net's command sets one for each core of the machine
        self.on_train_start()
        self.network.train()
        total, clock = float(os.environ["PEER_SECONDS"]), self.read_clock()
        while clock < total:
            before, began = clock, time.perf_counter()
            self.lr_scheduler.step(clock)
            loss = self.train_step(next(self.dataloader_train))["loss"]
            clock += time.perf_counter() - began
            self.add_row(clock, float(loss))
            self.keep(before, clock, total)
            self.current_epoch += 1
        self.on_train_end()

    def keep(self, before: float, clock: float, total: float) -> None:
        """Saves a checkpoint if this iteration has passed a mark, or the time of the usual one."""
        for mark in range(int(MARKS * before / total) + 1, min(MARKS, int(MARKS * clock / total)) + 1):
            self.save_checkpoint(f"{self.output_folder}/checkpoint_mark_{mark}.pth")
        if int(clock / SAVED_EVERY) > int(before / SAVED_EVERY):
            self.save_checkpoint(f"{self.output_folder}/checkpoint_latest.pth")

    def save_checkpoint(self, filename: str) -> None:
        """Writes a file that is complete even if the process is killed meanwhile."""
        super().save_checkpoint(f"{filename}.partial")
        os.replace(f"{filename}.partial", filename)

    @property
    def clock_file(self) -> Path:
        return Path(self.output_folder) / "clock.csv"

    def read_clock(self) -> float:
        """Seconds up to the checkpoint that was loaded; the rows of iterations after it are deleted."""
        rows = []
        if self.current_epoch:
            with self.clock_file.open(newline="") as file:
                rows = list(csv.reader(file))[1 : self.current_epoch + 1]
        with self.clock_file.open("w", newline="") as file:
            csv.writer(file).writerows([("iteration", "seconds", "loss"), *rows])
        return float(rows[-1][1]) if rows else 0.0

    def add_row(self, clock: float, loss: float) -> None:
        with self.clock_file.open("a", newline="") as file:
            csv.writer(file).writerow((self.current_epoch + 1, round(clock, 3), round(loss, 5)))

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Nothing: peer_nnunet.py scores every checkpoint that is kept."""
