"""Whether an image is of the kind of the training data: made-up images that differ in one fact."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import read
from monai.data import MetaTensor
from torch import nn

from scripts.doubt.handler import Doubt
from scripts.doubt.likeness import FEWEST, Fingerprint, cloud_of, facts_of, fingerprint_of
from scripts.doubt.lowest_level import LowestLevel
from scripts.doubt.model import parts_of
from scripts.inference.ensemble import Ensemble

SHAPE = (16, 18, 12)


def image(seed: int, spacing=(1.0, 1.2, 2.0), turned: bool = False, shape=SHAPE) -> MetaTensor:
    """A bright body with a dark organ at the left, in noise, normalised as a chain does it."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    inside = np.sqrt((grid**2).sum(0)) < 0.9 + 0.05 * rng.normal()
    organ = np.abs(grid[0] + 0.5 + 0.05 * rng.normal()) < 0.2
    data = (inside * (1.0 + 0.1 * rng.normal()) - 0.8 * (organ & inside) + 0.05 * rng.normal(size=shape)).astype(
        np.float32
    )
    if turned:
        data = data[::-1].copy()
    data = (data - data.mean()) / data.std()
    affine = np.diag([*spacing, 1.0])
    return MetaTensor(torch.from_numpy(data)[None], affine, meta={"original_affine": affine, "spatial_shape": shape})


def depth(seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(shift, 1, 8))


def fingerprint(count: int = 40) -> Fingerprint:
    spacings = [(1.0 + 0.1 * (seed % 3), 1.2, 2.0) for seed in range(count)]
    return fingerprint_of([facts_of(image(seed, spacing), depth(seed)) for seed, spacing in enumerate(spacings)])


def test_further_images_of_the_kind_are_like_the_training_data():
    known = fingerprint()
    marked = [known.unlike(facts_of(image(seed, (1.1, 1.2, 2.0)), depth(seed))) for seed in range(100, 160)]
    assert sum(map(bool, marked)) <= 3, marked


def test_scans_of_a_patient_do_not_speak_for_other_patients():
    """Rows that differ from patient to patient, and hardly from scan to scan."""
    rng = np.random.default_rng(0)
    people = rng.normal(size=(40, 20))
    rows = [person + 0.05 * rng.normal(size=20) for person in people for _ in range(5)]
    known, new = np.array(rows[:50]), rows[50::5]
    alone = cloud_of(known, np.arange(50) % 10)
    together = cloud_of(known, parts_of([str(number // 5) for number in range(50)]))
    marked = [sum(cloud.share(row) > 1 for row in new) for cloud in (alone, together)]
    assert marked[0] > 20 and marked[1] <= 2
    facts = facts_of(image(1))
    assert fingerprint_of([facts | {"patient": "one"}] * 20) is None
    assert fingerprint_of([facts | {"patient": "a"}] * 11 + [facts | {"patient": "b"}]) is None


@pytest.mark.parametrize("facts, said", [
    (facts_of(image(50, (1.1, 1.2, 5.0))), "voxel size is 5 mm along S, 2 to 2 mm in the training data"),
    (facts_of(image(50, shape=(16, 18, 40))), "field of view is 80 mm along S, 24 to 24 mm in the training data"),
    (facts_of(image(50, turned=True)), "what it shows at large"),
    (facts_of(image(50)) | {"intensities": (np.linspace(-1, 1, 13) ** 3 * 4).tolist()}, "intensities are spread"),
    (facts_of(image(50), depth(50, 9.0)), "features in it that the training data do not have"),
    (facts_of(image(50)) | {"picture": [0.0] * 432}, "what it shows at large"),
], ids=["voxels", "field", "turned", "intensities", "depth", "channels"])  # fmt: skip
def test_the_fact_that_is_most_unlike_is_said(facts, said):
    assert said in fingerprint().unlike(facts)


def test_what_an_image_is_like_does_not_depend_on_the_order_of_its_axes():
    """Facts are those along R, A and S, however the file lies on the disk."""
    given = image(3)
    affine = np.array([[0, 0, 1.0, 0], [1.2, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 1]])
    given.meta |= {"original_affine": affine, "spatial_shape": (18, 12, 16)}
    facts = facts_of(given)
    assert facts["voxels"] == [1.0, 1.2, 2.0] and facts["field"] == pytest.approx([16, 21.6, 24])


def test_a_fingerprint_is_the_same_after_it_was_kept():
    known = fingerprint(FEWEST)
    again = Fingerprint.from_dict(json.loads(json.dumps(known.to_dict())))
    facts = facts_of(image(60, (3, 3, 3)), depth(60))
    assert again == known and again.unlike(facts) == known.unlike(facts) != ""
    assert fingerprint_of([facts] * (FEWEST - 1)) is None


class Net(nn.Module):
    """Two levels, and back."""

    def __init__(self):
        super().__init__()
        self.first, self.deep = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 6, 3, stride=2, padding=1)
        self.last = nn.Conv3d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = self.deep(self.first(x))
        return self.last(nn.functional.interpolate(low, scale_factor=2))


@pytest.mark.parametrize("ensemble", [False, True])
def test_the_features_are_those_of_the_lowest_level(ensemble):
    network = Net()
    level = LowestLevel(Ensemble([network, Net()]) if ensemble else network)
    given = torch.randn(2, 1, 8, 8, 8)
    for _ in range(2):  # the first image shows where the level is
        with level, torch.no_grad():
            (network(given[:1]), network(given[1:]))
        expected = network.deep(network.first(given)).mean((0, 2, 3, 4))
        assert torch.allclose(level.features, expected, atol=1e-6) and level.watched == [network.deep]
    assert not network.deep._forward_hooks


def test_what_the_network_does_after_it_was_told_to_stop_does_not_count():
    """As the looks of doubt at the same image."""
    network = Net()
    level, (first, second) = LowestLevel(network), torch.randn(2, 1, 1, 8, 8, 8)
    for _ in range(2):
        with level, torch.no_grad():
            network(first)
            level.stop()
            network(second)
        assert torch.allclose(level.features, network.deep(network.first(first)).mean((0, 2, 3, 4)), atol=1e-6)


def test_doubt_looks_once_the_image_is_judged():
    judged = []
    looks = SimpleNamespace(check=None)
    doubt = Doubt(
        looks, ["background", "organ"], "model.pt", likeness=SimpleNamespace(stop_watching=lambda: judged.append(0))
    )

    def look(*_):
        judged.append(1)
        raise StopIteration

    doubt.signs_of = look
    x = torch.zeros(1, 1, 4, 4, 4)
    engine = SimpleNamespace(state=SimpleNamespace(output={"image": x, "pred": x}), network=Net(), amp=False)
    with pytest.raises(StopIteration):
        doubt.look(engine)
    assert judged == [0, 1] and read("inference.json")["doubt"]["likeness"] == "@likeness"


def test_an_image_that_fails_does_not_show_where_the_lowest_level_is():
    network = Net()
    level, given = LowestLevel(network), torch.randn(1, 1, 8, 8, 8)
    with pytest.raises(RuntimeError), level:
        network.first(given)
        raise RuntimeError("out of memory")
    with level, torch.no_grad():
        network(given)
    assert level.watched == [network.deep]
