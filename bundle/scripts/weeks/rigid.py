"""Rigid motions: six degrees of freedom, in millimetres towards the patient's left, back and head."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class Rigid:
    """A rigid motion of points: `turn @ point + shift`."""

    turn: np.ndarray
    shift: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return points @ self.turn.T + self.shift

    def after(self, first: "Rigid") -> "Rigid":
        return Rigid(self.turn @ first.turn, self.turn @ first.shift + self.shift)

    def inverse(self) -> "Rigid":
        return Rigid(self.turn.T, -self.turn.T @ self.shift)

    @property
    def degrees(self) -> np.ndarray:
        """Rotation about the axes towards left, back and head."""
        return Rotation.from_matrix(self.turn).as_rotvec(degrees=True)


STAY = Rigid(np.eye(3), np.zeros(3))
