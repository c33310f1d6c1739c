"""What the data check says of a data set as a whole."""

import logging

import numpy as np
import pytest
from plan_samples import NAMES, write_set

from scripts.check import nature
from scripts.check.cache import MEMORY_NAME, collect_facts
from scripts.check.dataset import check_listed, stop_on_errors
from scripts.check.nature import ENOUGH, describe, hands, has_one_hand, likeness
from scripts.check.pieces import largest_pieces
from scripts.check.sketch import means


def said(folder, tmp_path) -> list[str]:
    found, names = check_listed(str(folder), None, None, str(tmp_path / "out"), 1)
    assert not found.errors
    return describe(found.cases, found.files, names)


@pytest.mark.parametrize("codes", ["RAS", "LPI"])
@pytest.mark.parametrize("both", [False, True])
def test_hands(tmp_path, both, codes):
    lines = said(write_set(tmp_path / "data", both_hands=both, codes=codes), tmp_path)
    assert [line for line in lines if "mirror image of another" in line] == (lines[:1] if not both else [])


def test_one_odd_case_in_ten_is_borne():
    assert has_one_hand(np.array([0.5] * 10 + [-0.4]))
    assert not has_one_hand(np.array([0.5] * 8 + [-0.4] * 3))
    assert not has_one_hand(np.array([0.5] * (ENOUGH - 1)))


def test_likeness_of_pictures_and_their_mirror_images():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(8, 8, 8))
    near = [one + rng.normal(0, 0.2, one.shape) for _ in range(12)]
    assert likeness(near).min() > 0.5
    assert np.abs(np.median(likeness([part + np.flip(part, 0) for part in near]))) < 0.05
    assert np.median(likeness([np.flip(p, 0) if i % 2 else p for i, p in enumerate(near)])) < 0.2
    assert likeness([np.zeros((4, 4, 4))] * 3).tolist() == [0, 0, 0]


def test_long_and_different_voxels_and_tiny_classes_are_named(tmp_path):
    folder = write_set(tmp_path / "data", both_hands=True, spacing=(1.0, 1.0, 4.0))
    assert said(folder, tmp_path) == ["the voxels are long, 1 x 1 x 4 mm along R, A and S (a smaller rotate_range)"]
    listed = (folder / "dataset.json").read_text()
    write_set(folder, cases=2, both_hands=True, spacing=(0.5, 1.0, 4.0))
    (folder / "dataset.json").write_text(listed)
    assert "the voxels differ, from 0.5 x 1 x 4 to 1 x 1 x 4 mm" in said(folder, tmp_path)
    found, names = check_listed(str(folder), None, None, str(tmp_path / "out"), 1)
    for facts in found.files.values():
        facts["counts"] = {"0": 99_999, "1": 1} if facts["counts"] else None
    assert "organ is tiny, 0.00% of the voxels (a larger spatial_size)" in describe(found.cases, found.files, names)


def test_training_says_it_in_one_line(tmp_path, caplog):
    folder = write_set(tmp_path / "data")
    cases = [{key: str(folder / f"{key}sTr" / f"case_{n:02}.nii.gz") for key in ("image", "label")} for n in range(12)]
    data = {"training": cases, "validation": [], "test": [], "patients": {}}
    with caplog.at_level(logging.INFO):
        stop_on_errors(data, NAMES, str(tmp_path / "out"), workers=1, flip_probability=0)
        assert "mirror image of another" not in caplog.text  # nothing is mirrored
        stop_on_errors(data, NAMES, str(tmp_path / "out"), workers=1)
    lines = [record.message for record in caplog.records if "mirror image of another" in record.message]
    assert len(lines) == 1 and lines[0].endswith("scripts.plan makes settings for such data")


def test_hands_need_pictures():
    assert hands([], []) == {}


def test_of_very_many_images_some_are_looked_at(tmp_path, monkeypatch):
    """Spread over all of them, the last ones too."""
    folder = write_set(tmp_path / "data")
    paths = sorted(map(str, folder.glob("imagesTr/*")))
    facts = list(collect_facts(paths, None, 1, fresh=True)[0].values())
    seen: list[dict] = []
    monkeypatch.setattr(nature.sketch, "means", lambda one: (seen.append(one), means(one))[1])
    monkeypatch.setattr(nature, "MOST", 5)
    found = hands(facts, [])["images"]
    assert 3 <= len(found) == len(seen) <= 5 and facts.index(seen[-1]) >= len(facts) // 2


def test_pieces():
    labels = np.zeros((20, 20, 20), int)
    labels[2:6, 2:6, 2:6] = 1
    labels[10:12, 10:12, 10:12] = 1
    labels[15, 15, 15], labels[16, 16, 16] = 2, 2
    assert largest_pieces(labels) == {"1": 64 / 72, "2": 1.0}
    assert largest_pieces(labels - 1e-4) == {"1": 64 / 72, "2": 1.0}
    assert largest_pieces(np.zeros((4, 4, 4))) == {}


def test_pieces_are_remembered_and_read_only_where_they_are_missing(tmp_path):
    folder = write_set(tmp_path / "data", cases=3)
    paths = [str(path) for kind in ("imagesTr", "labelsTr") for path in sorted((folder / kind).iterdir())]
    memory = tmp_path / MEMORY_NAME
    assert collect_facts(paths, memory, 1, False)[1] == 6
    found, read = collect_facts(paths, memory, 1, False, pieces=True)
    assert read == 3 and all(found[path]["pieces"] == {"1": 1.0} for path in paths[3:])
    assert collect_facts(paths, memory, 1, False, pieces=True) == (found, 0)
    assert collect_facts(paths, memory, 1, False) == (found, 0)
