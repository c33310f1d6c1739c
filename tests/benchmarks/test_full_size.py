"""The shipped settings on full-size phantoms: minutes, so only with `-m slow`."""

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import run

from scripts.data.layouts import find_images
from scripts.phantoms import generate

pytestmark = pytest.mark.slow


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("layout", ["hipmri", "hipmri_short", "decathlon"])
@pytest.mark.usefixtures("two_threads")
def test_one_epoch_and_inference_at_full_size(layout, tmp_path):
    """Training on 256x256x128, then inference on that size and on 256x256x144, each on its own grid."""
    generate.generate(tmp_path / "data", patients=3, scans=1, size=(256, 256, 128), seed=0, layout=layout)
    models = tmp_path / "models"
    run(
        "train",
        ["train.json"],
        base={},
        dataset_dir=tmp_path / "data",
        output_dir=tmp_path / "out",
        ckpt_dir=models,
        epochs=1,
    )
    generate.generate(tmp_path / "tall", patients=1, scans=1, size=(256, 256, 144), seed=1, layout=layout)
    for folder, shape in (("data", (256, 256, 128)), ("tall", (256, 256, 144))):
        results = tmp_path / f"{folder}_results"
        run("infer", ["inference.json"], base={}, dataset_dir=tmp_path / folder, output_dir=results, ckpt_dir=models)
        images = find_images(tmp_path / folder)
        assert images
        for image in images:
            source = nib.load(image)
            result = nib.load(results / image.name.replace(".nii.gz", "_seg.nii.gz"))
            assert result.shape == source.shape == shape
            assert np.array_equal(result.affine, source.affine)
