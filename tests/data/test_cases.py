import pytest
from helpers import refusal

from scripts.data.cases import Split, cases_of_run, labelled_cases


def case(name: str, **more) -> dict:
    return {"image": f"{name}.nii.gz", "label": f"{name}_seg.nii.gz", **more}


@pytest.fixture
def data() -> dict:
    """As from a datalist."""
    content: dict = {"patients": {"a.nii.gz": "A"}, "description": "three", "datalist": "list.json"}
    lists = {"training": [case("a")], "validation": [], "test": [case("b"), {"image": "c.nii.gz"}]}
    return content | {name: Split(cases, content) for name, cases in lists.items()}


def test_the_lists_of_a_datalist_bring_all_of_it(data):
    content = data["training"].origin
    assert cases_of_run(data["training"], data["validation"]) is content
    assert cases_of_run(validation=labelled_cases(data, "test")) is content
    assert labelled_cases(data, "test") == [case("b")]


def test_two_images_of_one_name_would_share_their_results(data):
    data["test"] = Split([case("one/t2"), case("two/t2")], {})
    assert "two/t2.nii.gz: the same name t2 as one/t2.nii.gz" in refusal(labelled_cases, data, "test")


@pytest.mark.parametrize("which", ["training", "validation"])
def test_one_foreign_list_makes_both_foreign(which, data):
    """The patients and the test cases of the datalist say nothing of cases that it does not hold."""
    lists = {"training": data["training"], "validation": data["validation"], which: [case("d", patient="D"), case("e")]}
    found = cases_of_run(**lists)
    assert found[which] == lists[which] and found["test"] == [] and "datalist" not in found
    assert found["patients"]["d.nii.gz"] == "D" and found["patients"]["e.nii.gz"] == "e"
    assert "another program" in found["description"]


def test_patient_number_0_is_a_patient():
    training, validation = [case("a", patient=0), case("b", patient=1)], [case("c", patient=0), case("d", patient="")]
    assert list(cases_of_run(training, validation)["patients"].values()) == ["0", "1", "0", "d"]
    together = cases_of_run(training, validation, keep_patients_together=True)
    sides = [{entry["patient"] for entry in together[split]} for split in ("training", "validation")]
    assert not sides[0] & sides[1]


def test_a_case_wants_an_image_and_a_label():
    for wrong in ({"image": "a.nii.gz"}, "a.nii.gz", None, {"image": 1, "label": 2}):
        assert refusal(cases_of_run, [wrong], []).startswith(f"train::dataset::data: found {wrong!r}; expected")
