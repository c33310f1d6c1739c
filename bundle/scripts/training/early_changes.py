"""Random changes of the images that the last epochs do without."""

from collections.abc import Mapping, Sequence

from ignite.engine import Engine, Events
from monai.transforms import Compose, Transform


class EarlyChanges(Compose):
    """A chain that changes images in the first epochs, and leaves them as they are in the last ones.

    Strong changes keep a network from learning the training images by heart; but it learns images that look unlike any
    that it is given later. With the last epochs it gets used to images as they are.

    What is done follows from the epoch, so a resumed run needs no state of it.

    Args:
        transforms: the chain.
        share: of the epochs of the training, up to which it works.
    """

    def __init__(self, transforms: Sequence[Transform], share: float) -> None:
        super().__init__(transforms)
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}, expected a number from 0 to 1")
        self.share = share
        self._over = False

    def attach(self, trainer: Engine) -> None:
        trainer.add_event_handler(Events.EPOCH_STARTED, self.begin_epoch)

    def begin_epoch(self, trainer: Engine) -> None:
        """Processes that load images are started after this, and have the same."""
        self._over = trainer.state.epoch > round(self.share * trainer.state.max_epochs)

    def __call__(self, input_: Mapping, *args, **kwargs) -> Mapping:
        return input_ if self._over else super().__call__(input_, *args, **kwargs)
