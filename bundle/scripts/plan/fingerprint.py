"""The facts on a data set that a plan depends on, put together from those that the data check has of every file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scripts.check import nature, sketch
from scripts.check.dataset import Findings
from scripts.data.slices import is_sliced

ONE_PIECE = 0.98  # of the voxels of a class, in its largest piece
USUALLY = 0.95  # of the label maps
CHANGING = 1.1  # voxels that differ by this factor between images have to be resampled


@dataclass(frozen=True)
class Split:
    """How a datalist, or the folders of the data, divide the cases.

    Args:
        training: number of cases that train.
        validation: number of cases that validate.
        fold: the fold that these numbers are of; None without folds.
    """

    training: int
    validation: int
    fold: int | None = None


@dataclass(frozen=True)
class Fingerprint:
    """What a data set is like.

    Args:
        images: facts on the images that can be used, see `scripts.check.nifti.inspect_volume`.
        labels: likewise, of their label maps.
        class_names: names of the values 0, 1, ...
        patients: number of those with a label map.
        sliced: whether the images are stacks of pictures, which have a reader of their own.
        listed: how a datalist or the folders divide the cases, if they do.
    """

    images: Sequence[Mapping]
    labels: Sequence[Mapping]
    class_names: Sequence[str]
    patients: int
    sliced: bool
    listed: Split | None = None

    @cached_property
    def shapes(self) -> np.ndarray:
        """Voxels along R, A and S, a row for each image."""
        return np.array([facts["ras_shape"] for facts in self.images])

    @cached_property
    def spacings(self) -> np.ndarray:
        """Sizes of the voxels in mm along R, A and S, a row for each image."""
        return np.array([facts["spacing"] for facts in self.images])

    @property
    def shape(self) -> np.ndarray:
        return np.median(self.shapes, axis=0)

    @property
    def spacing(self) -> np.ndarray:
        return np.median(self.spacings, axis=0)

    @property
    def spacing_changes(self) -> bool:
        """Whether voxels differ in size between the images."""
        return bool(
            (np.quantile(self.spacings, 0.9, axis=0) > CHANGING * np.quantile(self.spacings, 0.1, axis=0)).any()
        )

    @property
    def channels(self) -> int:
        return int(self.images[0].get("channels", 1))

    @cached_property
    def hands(self) -> dict[str, np.ndarray]:
        """Of images and labels, how much each is more like the others than like their mirror images."""
        return nature.hands(self.images, self.labels)

    @property
    def one_hand(self) -> bool:
        return any(nature.has_one_hand(found) for found in self.hands.values())

    @property
    def enough_for_hand(self) -> bool:
        """Whether there are cases enough to say that all have one hand."""
        return any(len(found) >= nature.ENOUGH for found in self.hands.values())

    @cached_property
    def shares(self) -> dict[str, float]:
        """The median share of the voxels of every foreground class, where it is present."""
        return nature.class_shares(self.labels, self.class_names)

    @cached_property
    def places(self) -> list[dict[int, np.ndarray]]:
        """Where the classes of each label map lie, see `scripts.check.sketch.places`."""
        return [sketch.places(facts) for facts in self.labels]

    @cached_property
    def box(self) -> np.ndarray | None:
        """First and last place of any class along each axis, as shares of the extent; None without any class."""
        anywhere = sum((grid > 0 for found in self.places for grid in found.values()), np.zeros(()))
        if not anywhere.any():
            return None
        inside = np.argwhere(anywhere)
        return np.array([inside.min(axis=0), inside.max(axis=0) + 1]) / anywhere.shape[0]

    @cached_property
    def single(self) -> dict[str, float]:
        """The share of the label maps in which a class is one piece, of those that have it."""
        found: dict[str, list[bool]] = {}
        for value, name in enumerate(self.class_names):
            shares = [facts["pieces"][str(value)] for facts in self.labels if str(value) in facts.get("pieces", {})]
            found[name] = [share >= ONE_PIECE for share in shares]
        return {name: float(np.mean(one)) for name, one in found.items() if one}


def fingerprint(found: Findings, class_names: Sequence[str], listed: Split | None = None) -> Fingerprint:
    """The fingerprint of the cases of a check; those with errors are left out."""
    sound = [case for case in found.cases if "error" not in found.files[case.image]]
    labels = dict.fromkeys(case.label for case in sound if case.label and "error" not in found.files[case.label])
    return Fingerprint(
        images=[found.files[path] for path in dict.fromkeys(case.image for case in sound)],
        labels=[found.files[path] for path in labels],
        class_names=class_names,
        patients=len({case.patient for case in sound if case.label}),
        sliced=any(is_sliced(case.image) for case in sound),
        listed=listed,
    )
