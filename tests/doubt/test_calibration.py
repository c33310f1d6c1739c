"""What is kept of weights: from which cases it is learned, and under which name it lies."""

import pytest

from scripts.doubt.calibration import Learning, file_beside, fit_class
from scripts.doubt.model import SIGNS


def case(number: int, predicted_ml: float = 2.0) -> dict:
    signs = dict.fromkeys(SIGNS, 0.1) | {"agreement": 0.8 + 0.005 * number}
    found = {"Dice": 0.8, "truth_ml": 2.0, "predicted_ml": predicted_ml}
    return {"patient": f"p{number}", "signs": {"organ": signs}, "worse": [], "metrics": {"1": found},
            "status": {"1": "scored"}}  # fmt: skip


def test_a_class_that_is_lost_on_the_grid_of_the_image_is_left_out():
    """Its few voxels on the network's grid are none of the image's."""
    known = fit_class([*map(case, range(20)), case(20, predicted_ml=0.0)], "organ", "1")
    assert known.cases == 20


@pytest.mark.parametrize(
    "weights, name",
    [("a/model.pt", "model_doubt.json"), (["a/model.pt"], "model_doubt.json"), ("a/all.json", "all_doubt.json"),
     (["a/model.pt", "b/model.pt"], "ensemble_doubt.json")],
)  # fmt: skip
def test_what_was_learned_of_several_networks_leaves_that_of_the_first_alone(weights, name):
    assert str(file_beside(weights)) == f"a/{name}"


def test_results_of_an_earlier_evaluation_are_not_taken_for_new_ones(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    Learning(str(tmp_path), "model.pt", [], {}, None, None, None).begin()
    assert not (tmp_path / "metrics.json").exists()
