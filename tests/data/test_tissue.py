"""Intensities of the tissue, whatever shines beside it."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.data.tissue import NormalizeTissued


def head(rim: float, gain: float = 1.0, air: float = 0.0, seed: int = 0) -> MetaTensor:
    """Two channels: tissue around 100 in a bright rim, with air around it."""
    random = np.random.default_rng(seed)
    values = np.full((40, 40, 6), air)
    values[5:35, 5:35] = rim
    values[6:34, 6:34] = random.normal(100, 10, (28, 28, 6))
    return MetaTensor(torch.from_numpy(gain * np.stack([values, values[::-1]])).float(), affine=torch.eye(4))


def normalised(image) -> torch.Tensor:
    return NormalizeTissued("image")({"image": image})["image"]


@pytest.mark.parametrize("changed", [{"rim": 700}, {"rim": 300, "gain": 0.01}, {"rim": 300, "air": 5.0}])
def test_the_tissue_keeps_its_values_whatever_is_around_it(changed):
    plain, other = (normalised(head(**{"rim": 300} | given))[:, 8:32, 8:32] for given in ({}, changed))
    assert torch.allclose(plain, other, atol=0.05) and abs(float(plain.mean())) < 0.3 and 0.5 < float(plain.std()) < 1.2


def test_metadata_and_type_stay_and_bright_voxels_are_cut_off():
    image = head(rim=800).double()
    found = normalised(image)
    assert isinstance(found, MetaTensor) and torch.equal(found.affine, image.affine) and found.shape == image.shape
    assert found.dtype == torch.float32 and float(found.max()) == 6 and float(found.min()) >= -3


def test_an_image_of_one_value_is_finite():
    for value in (0.0, 7.0):
        assert torch.isfinite(normalised(torch.full((1, 8, 8, 8), value))).all()


def test_missing_keys():
    with pytest.raises(KeyError):
        NormalizeTissued("image")({})
    assert NormalizeTissued("image", allow_missing_keys=True)({"label": 1}) == {"label": 1}
