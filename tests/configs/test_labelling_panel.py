"""What a labelling program shows and changes, under the id that MONAI Label's server reads: `displayable_configs`."""

import json
from pathlib import Path

import pytest
from conftest import read, run, workflow
from helpers import refusal, rows
from monai.bundle import ConfigParser
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.transforms import KeepLargestConnectedComponentd

from scripts.data.layouts import find_pairs
from scripts.inference.ensemble import MirroredInferer
from scripts.run.knobs import check_configuration

PANEL = "displayable_configs"


def panel(file: str, **knobs) -> dict:
    return ConfigParser({**read(file), "bundle_root": ".", **knobs}).get_parsed_content(PANEL)


def as_the_server_sets(**chosen) -> ConfigParser:
    """The configuration of inference after a user's choice, as the server changes it in a parser that it keeps."""
    parser = ConfigParser({**read("inference.json"), "bundle_root": "."})
    shown = parser.get_parsed_content(PANEL)
    parser[PANEL].update({**shown, **chosen})
    parser.parse()
    return parser


@pytest.mark.parametrize("file", ["train.json", "inference.json"])
def test_the_panel_has_values_that_it_can_show(file):
    """Of a list the panel shows the entries to choose from, and fails on an empty one."""
    shown = panel(file)
    assert all(isinstance(value, bool | int | float | str) for value in shown.values())
    assert shown["model_filename"] == "model.pt"  # the first of the files would be last.pt


def test_the_panel_begins_with_the_knobs():
    assert panel("inference.json")["keep_largest"] is False and panel("inference.json")["mirror_images"] is False
    changed = panel("inference.json", keep_largest=True, mirror_axes=[0])
    assert changed["keep_largest"] is True and changed["mirror_images"] is True
    changed = panel("train.json", epochs=7, keep_last=True, keep_patients_together=False)
    assert (changed["max_epochs"], changed["keep_last"], changed["keep_patients_together"]) == (7, True, False)
    assert panel("train.json")["run_id"] in read("train.json")  # an empty one would run the whole configuration


def test_a_switch_changes_the_transforms_and_the_inferer():
    for chosen in (True, False):
        parser = as_the_server_sets(keep_largest=chosen, mirror_images=chosen, sliding_window=chosen)
        kinds = [type(step) for step in parser.get_parsed_content("postprocessing").transforms]
        assert (KeepLargestConnectedComponentd in kinds) is chosen
        inferer = parser.get_parsed_content("inferer").inferer
        assert isinstance(inferer, MirroredInferer) and inferer.flips == ([[2]] if chosen else [])
        assert isinstance(inferer.inferer, SlidingWindowInferer if chosen else SimpleInferer)


def test_a_recipe_with_mirror_images_can_do_without():
    parser = ConfigParser({**read("inference.json"), "bundle_root": ".", "mirror_axes": [0, 1]})
    assert len(parser.get_parsed_content("inferer").inferer.flips) == 3
    parser[PANEL]["mirror_images"] = False
    parser.parse()
    assert parser.get_parsed_content("inferer").inferer.flips == []


def test_a_value_of_the_panel_is_checked_as_a_knob():
    config = {**read("train.json"), "bundle_root": ".", "knobs": {"_target_": check_configuration}}
    assert ConfigParser(config).get_parsed_content("knobs")["keep_last"] is False
    config[PANEL] = {**panel("train.json"), "keep_last": True}
    assert ConfigParser(config).get_parsed_content("knobs")["keep_last"] is True
    config[PANEL]["keep_last"] = "yes"
    parser = ConfigParser(config)
    with pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content("knobs")
    assert str(caught.value.__cause__).startswith("keep_last is 'yes'")


@pytest.fixture(scope="module")
def by_scan(phantoms) -> dict[str, list[dict]]:
    """Cases as the server divides them: a patient has one scan in training and one in validation."""
    pairs = [{key: str(phantoms / pair[key]) for key in ("image", "label")} for pair in find_pairs(str(phantoms))]
    return {"train::dataset::data": pairs[:5], "validate::dataset::data": pairs[5:8]}


def in_folder(folder: Path) -> dict:
    return {"dataset_dir": folder / "nowhere", "output_dir": folder, "ckpt_dir": folder / "models", "epochs": 1}


def test_scans_of_a_patient_are_brought_together(by_scan, tmp_path, caplog):
    run("train", ["train.json"], **in_folder(tmp_path), **by_scan)
    cases = json.loads((tmp_path / "check.json").read_text())["cases"]
    listed = {(case["split"], case["patient"], Path(case["image"]).name) for case in cases}
    assert len(listed) == 8 and {patient for _, patient, _ in listed} == {"004", "005", "006", "007"}
    held_out = {patient for split, patient, _ in listed if split == "validation"}
    assert held_out == {"006", "007"} and not held_out & {
        patient for split, patient, _ in listed if split == "training"
    }
    assert any("now 4 scans are for training and 4 for validation" in line for line in caplog.messages)
    assert any(line.startswith("cache: 8 cases") for line in caplog.messages)


def test_the_datasets_hold_what_was_brought_together(by_scan, tmp_path):
    made = workflow("train", ["train.json"], **in_folder(tmp_path), **by_scan)
    made.initialize()
    made.parser.get_parsed_content("handed_over")
    cases = made.parser.get_parsed_content("cases")
    for split, name, count in (("training", "train", 4), ("validation", "validate", 4)):
        dataset = made.parser.get_parsed_content(f"{name}::dataset")
        assert dataset.data == cases[split] and len(dataset) == count == len(cases[split])
    assert len(made.parser.get_parsed_content("train::dataloader").dataset) == 4


def test_without_it_they_are_refused(by_scan, tmp_path):
    shown = {**panel("train.json"), "keep_patients_together": False}
    made = workflow("train", ["train.json"], **in_folder(tmp_path), **by_scan, displayable_configs=shown)
    made.initialize()
    assert "patient 006 is in training" in refusal(made.run)
    made.finalize()


def test_the_last_epoch_is_kept_where_the_panel_says_so(by_scan, tmp_path):
    lists = {**by_scan, "validate::dataset::data": []}
    made = workflow("train", ["train.json"], **in_folder(tmp_path), **lists)
    made.initialize()
    assert "no validation cases" in refusal(made.run)
    made.finalize()
    shown = {**panel("train.json"), "keep_last": True}
    run("train", ["train.json"], **in_folder(tmp_path), **lists, displayable_configs=shown)
    assert (tmp_path / "models" / "model.pt").is_file() and len(rows(tmp_path / "history.csv")) == 1
