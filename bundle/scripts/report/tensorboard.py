"""Pictures of a validation case in TensorBoard, while a training runs."""

from collections.abc import Sequence

from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from scripts.report.overlay import overlay


class TensorBoardPictures:
    """Image, label and prediction of the first validation case, in three planes, to TensorBoard.

    Args:
        log_dir: TensorBoard's folder.
        class_names: names of the values 0, 1, ...
        interval: epochs from one picture to the next, 1 or more. The first validation has one, also of a training that
            is resumed; then the first validation after so many epochs.
    """

    def __init__(self, log_dir: str, class_names: Sequence[str], interval: int = 1):
        self.writer = SummaryWriter(log_dir)
        self.class_names, self.interval = class_names, interval
        self.last: int | None = None  # epoch of the last picture

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        if engine.state.iteration != 1 or (self.last is not None and epoch - self.last < self.interval):
            return
        self.last = epoch
        case = engine.state.output[0]
        image, label, pred = (case[key][0].float().cpu().numpy() for key in ("image", "label", "pred"))
        figure = overlay(image, {"truth": label, "prediction": pred}, case["image"].meta["affine"], self.class_names)
        self.writer.add_figure("validation", figure, epoch, close=False)
        self.writer.flush()
