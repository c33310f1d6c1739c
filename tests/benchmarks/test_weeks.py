"""The script on weekly scans: its parts, and the page that shows what it has measured."""

import importlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import BUNDLE, ROOT

from scripts.weeks.motion import OrganMotion
from scripts.weeks.rigid import STAY
from scripts.weeks.structures import find_structures


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("weeks")


def test_everything_is_measured_at_a_small_size(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "FINE", (64, 64, 32))
    size = (48, 48, 24)
    found = script.measure(size, range(4, 6), 2, tmp_path, peer=False)
    predicted = script.measure_predictions(tmp_path)
    assert found["size"] == list(size) and found["moved_mm"]["min"] > 1
    assert predicted["bones_mm"] == pytest.approx(found["bones_mm"], abs=1e-4)  # the same maps, read from the folder
    assert 0 < found["bones_mm"]["max"] < 1.0 and found["bones_deg"]["max"] < 0.8
    assert found["strangers_mm"]["min"] > found["residual_mm"]["max"]
    text = script.table({"sizes": [found], "predictions": predicted})
    assert text.count("\n") == len(text.splitlines()) and "48x48x24, 9.0 mm, of a network" in text
    assert "SimpleITK" not in text and "shift of the prostate (mm)" in text


def test_an_organ_without_a_surface_has_no_figures_of_it(script):
    known = {"volume_ml": 2.0, "left_mm": 1.0, "back_mm": 0.0, "head_mm": 0.0}
    real = {"rectum": OrganMotion(**known, surface_max_mm=1.0, surface_p95_mm=1.0, outside={5: 0.0})}
    figures = script.Figures()
    script.note_organs(figures.note, SimpleNamespace(organs={"rectum": OrganMotion(**known)}), real)
    assert set(figures.summary()) == {"rectum_mm", "volume_percent"}


def test_legs_are_turned_and_nothing_else(script):
    labels = script.labels_of(4, 0, (48, 48, 24))
    surface = find_structures(labels, script.affine_of((48, 48, 24)), [script.BONES])[script.BONES].surface
    turned, kept = script.turn_legs(surface, 4, 0)
    moved = np.linalg.norm(turned.points - surface.points, axis=1)
    assert 0.03 < 1 - kept.mean() < 0.4 and moved[kept].max() == 0 and np.median(moved[~kept]) > 2
    assert np.allclose(np.linalg.norm(turned.normals, axis=1), 1)
    assert script.bone_error(STAY, STAY, surface.points) == (0, 0)


def test_the_page_shows_what_was_measured(script):
    found = json.loads((BUNDLE / "docs" / "weeks_metrics.json").read_text())
    text = (BUNDLE / "docs" / "how-to" / "weeks.md").read_text()
    assert f"<!-- weeks -->\n\n{script.table(found)}\n<!-- end -->" in text
    assert f"{found['patients'] * (found['weeks'] - 1)} scans of {found['patients']} patients" in text
