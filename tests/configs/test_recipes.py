"""Every recipe, from its own layout through training, evaluation and inference; by one patch on all three."""

import csv
import json

import numpy as np
import pytest
import torch
from conftest import BUNDLE, CONFIGS, workflow
from helpers import measured
from monai import bundle
from PIL import Image

from scripts.core.errors import UserError
from scripts.data.label_maps import read_labels
from scripts.data.layouts import find_images, find_pairs
from scripts.inference.submission import decode, encode
from scripts.phantoms import generate

RECIPES = {  # layout and size of its phantoms, what makes a run tiny, the split that has labels
    "recipe_hipmri_residual_attention": (
        {"layout": "hipmri", "scans": 1, "size": (32, 32, 16)},
        {"spatial_size": [32, 32, 16], "widths": [16, 16]},
        "test",
    ),
    "recipe_hipmri_2d": (
        {"layout": "keras_slices", "scans": 1, "size": (32, 32, 16), "slices": 5},
        {"spatial_size": [32, 16], "widths": [4, 8], "slices_per_scan": 2},
        "test",
    ),
    "recipe_cardiac_2d": (
        {"layout": "cardiac_png", "scans": 1, "size": (64, 64)},
        {"spatial_size": [64, 64], "widths": [4, 8]},
        "validation",
    ),
    "recipe_hippocampus": (
        {"layout": "decathlon", "scans": 1, "size": (32, 32, 16)},
        {"class_names": generate.CLASSES, "spatial_size": [16, 16, 16], "window_size": [32, 32, 16], "features": 2},
        "test",
    ),
    "recipe_promise12": (
        {"layout": "decathlon", "scans": 1, "size": (32, 32, 16)},
        {"class_names": generate.CLASSES, "spatial_size": [16, 16, 16], "features": 2},
        "validation",
    ),
    "recipe_lgg_2d": (
        {"layout": "lgg_tiff", "size": (32, 32), "slices": 5},
        {"spatial_size": [32, 32], "widths": [4, 8], "slices_per_scan": 2},
        "test",
    ),
}
VERBS = {"train": ["train.json"], "evaluate": ["train.json", "evaluate.json"], "infer": ["inference.json"]}
pytestmark = pytest.mark.usefixtures("in_the_bundle")


def made(verb, recipe, **overrides):
    files = [*VERBS[verb], f"{recipe}.json"]
    return workflow(verb, files, base={}, **{"num_workers": 0, "cache_workers": 1, **RECIPES[recipe][1], **overrides})


def finish(run):
    run.initialize()
    run.run()
    run.finalize()


@pytest.fixture(scope="module", params=RECIPES)
def trained(request, tmp_path_factory):
    """One epoch of each; the folder holds data/ and out/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(BUNDLE)
        folder = tmp_path_factory.mktemp(request.param)
        generate.generate(folder / "data", patients=5, **RECIPES[request.param][0])
        paths = {"dataset_dir": folder / "data", "output_dir": folder / "out", "ckpt_dir": folder / "out"}
        finish(made("train", request.param, epochs=1, **paths))
    return request.param, folder, paths


def test_all_recipes_are_tested():
    assert {path.stem for path in CONFIGS.glob("recipe_*.json")} == set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_brings_no_nested_ids_and_merges_nothing(recipe):
    """Else it would not fit all three configurations, or MONAI would warn of it."""
    content = json.loads((CONFIGS / f"{recipe}.json").read_text())
    assert not [key for key in content if "::" in key or "#" in key or key.startswith("+")]


def test_properties(trained):
    recipe, _, paths = trained
    for verb in VERBS:
        split = {"split": RECIPES[recipe][2]} if verb == "evaluate" else {}
        run = made(verb, recipe, **paths, **split)
        run.initialize()
        assert run.check_properties() == [], verb


def test_training_and_inference_are_given_the_same(trained):
    recipe, _, paths = trained
    found = []
    for verb in ("train", "infer"):
        run = made(verb, recipe, **paths)
        run.initialize()
        keys = ("class_names", "spatial_size", "deterministic_chain", "to_labels", "network_def")
        found.append([run.parser.get(key) for key in keys])
    assert found[0] == found[1]


def test_training_ends_with_learning_how_good_results_are(trained):
    _, folder, _ = trained
    listed = json.loads((folder / "out" / "datalist.json").read_text())
    validated = listed["validation"] or [case for case in listed["training"] if case.get("fold") is not None]
    assert (folder / "out" / "model_doubt.json").is_file() == bool(validated)


def test_evaluation_scores_whole_scans_on_their_own_grid(trained):
    recipe, folder, paths = trained
    finish(made("evaluate", recipe, **paths, split=RECIPES[recipe][2]))
    content = json.loads((folder / "out" / "metrics.json").read_text())
    listed = json.loads((folder / "out" / "datalist.json").read_text())
    entries = listed[RECIPES[recipe][2]] or [entry for entry in listed["training"] if entry["fold"] == 0]
    assert len(content["metric_per_case"]) == len(entries) and not content.get("problems")
    assert ("Pixel size" in dict(content["about"])) == (recipe in ("recipe_cardiac_2d", "recipe_lgg_2d"))
    scores = measured(folder / "out" / "metrics.csv")
    assert len(scores) == len(entries)
    assert all(0 <= value <= 1 or np.isnan(value) for row in scores.values() for value in row.values())


def test_inference_writes_what_it_was_given_and_only_once(trained):
    recipe, folder, paths = trained
    paths = {**paths, "output_dir": folder / "predictions"}
    finish(made("infer", recipe, **paths))
    class_names = json.loads((folder / "out" / "datalist.json").read_text())["class_names"]
    cases = json.loads((folder / "predictions" / "run.json").read_text())["cases"]
    assert len(cases) == len(find_images(folder / "data")) and all(case["fate"] == "done" for case in cases)
    ending, shape = {
        "recipe_cardiac_2d": ("_seg.png", (64, 64, 1)),
        "recipe_lgg_2d": ("_*_seg.tif", (32, 32, 5)),
        "recipe_hipmri_2d": ("_seg.nii.gz", (32, 16, 5)),
        "recipe_hipmri_residual_attention": ("_seg.nii.gz", (32, 32, 16)),
        "recipe_hippocampus": ("_seg.nii.gz", (32, 32, 16)),
        "recipe_promise12": ("_seg.nii.gz", (32, 32, 16)),
    }[recipe]
    for case in cases:
        assert case["output"].endswith(ending)
        assert read_labels(folder / "predictions" / case["output"], class_names)[0].shape == shape
    before = {path: path.stat().st_mtime_ns for path in (folder / "predictions").glob("*_seg.*")}
    finish(made("infer", recipe, **paths, resume=True))
    assert before and {path: path.stat().st_mtime_ns for path in before} == before


def test_export(trained):
    recipe, folder, paths = trained
    file = folder / "model.ts"
    bundle.ckpt_export(
        net_id="network_def",
        filepath=str(file),
        ckpt_file=str(folder / "out" / "model.pt"),
        meta_file="configs/metadata.json",
        config_file=[f"configs/{name}.json" for name in ("inference", recipe)],
        **RECIPES[recipe][1],
    )
    run = made("infer", recipe, **paths)
    run.initialize()
    network = run.parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(folder / "out" / "model.pt", weights_only=True))
    x = torch.rand(1, run.parser.get_parsed_content("network_def::in_channels"), *RECIPES[recipe][1]["spatial_size"])
    assert torch.allclose(torch.jit.load(str(file)).eval()(x), network(x), atol=1e-4)


# each one's own


def test_a_volume_is_segmented_slice_by_slice(tmp_path):
    """Trained on slices; the map of a volume lies on the volume's own grid and equals that of its slices."""
    recipe, shared = "recipe_hipmri_2d", {"patients": 3, "scans": 1, "size": (32, 32, 16)}
    generate.generate(tmp_path / "slices", layout="keras_slices", **shared)
    generate.generate(tmp_path / "volumes", layout="hipmri", **shared)
    out = tmp_path / "out"
    options = {"epochs": 6, "learning_rate": 0.01, "slices_per_scan": 16}
    finish(made("train", recipe, dataset_dir=tmp_path / "slices", output_dir=out, ckpt_dir=out, **options))
    maps = []
    for folder in ("slices", "volumes"):
        target = tmp_path / f"{folder}_maps"
        finish(made("infer", recipe, dataset_dir=tmp_path / folder, output_dir=target, ckpt_dir=out))
        maps.append(read_labels(sorted(target.glob("*_seg.nii.gz"))[-1], generate.CLASSES)[0])
    first, second = maps
    assert second.shape == (32, 32, 16) and len(np.unique(second)) > 1
    assert (first == second.transpose(1, 2, 0)).mean() > 0.999  # but for rounding


def test_a_split_without_labels_can_not_be_scored(tmp_path):
    generate.generate(tmp_path / "data", layout="cardiac_png", patients=5, scans=1, size=(64, 64))
    paths = {"dataset_dir": tmp_path / "data", "ckpt_dir": tmp_path / "out", "output_dir": tmp_path / "out"}
    finish(made("train", "recipe_cardiac_2d", epochs=1, **paths))
    with pytest.raises(UserError, match="no case under test has a label.*say --split validation"):
        finish(made("evaluate", "recipe_cardiac_2d", **paths))


def test_the_submission_comes_back_as_the_masks(tmp_path):
    generate.generate(tmp_path / "data", layout="cardiac_png", patients=5, scans=1, size=(64, 64))
    paths = {"dataset_dir": tmp_path / "data", "ckpt_dir": tmp_path / "out"}
    finish(made("train", "recipe_cardiac_2d", epochs=1, output_dir=tmp_path / "out", **paths))
    finish(made("infer", "recipe_cardiac_2d", output_dir=tmp_path / "maps", **paths))
    with (tmp_path / "maps" / "submission.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    images = sorted(find_images(tmp_path / "data"))
    assert [row["id"] for row in found] == [f"{path.stem}_mask{k}" for path in images for k in (1, 2, 3)]
    for row in found:
        case, value = row["id"].split("_mask")
        picture = np.asarray(Image.open(tmp_path / "maps" / f"{case}_seg.png"))  # rows, columns
        assert np.array_equal(decode(row["encoding"], (64, 64)).T, picture == int(value))


def test_run_lengths_by_hand():
    mask = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1]], bool)  # as seen, rows from the top
    assert encode(mask.T) == "2 1 4 1 7 1 9 1"
    assert encode(np.zeros((3, 3), bool)) == "" and not decode("", (3, 3)).any()
    assert encode(np.ones((2, 2), bool)) == "1 4"


def redraw(path, value):
    values = np.asarray(Image.open(path)).copy()
    values[0, 0] = value
    Image.fromarray(values).save(path)


WRONG = {  # what is done to an image, a mask; which of the two is named
    "value": (lambda image, mask: redraw(mask, 9), "mask"),
    "palette": (lambda image, mask: Image.open(image).convert("P").save(image), "image"),
    "size": (lambda image, mask: Image.open(mask).resize((24, 24)).save(mask), "mask"),
    "no mask": (lambda image, mask: mask.unlink(), "image"),
    "grey": (lambda image, mask: Image.open(image).convert("L").save(image), "image"),
    "unreadable": (lambda image, mask: image.write_bytes(image.read_bytes()[:20]), "image"),
}


@pytest.mark.parametrize(
    "recipe, wrong, word",
    [
        ("recipe_cardiac_2d", "value", "found label 9; expected 0 to 3"),
        ("recipe_cardiac_2d", "palette", "found a palette"),
        ("recipe_cardiac_2d", "size", "found shape (24, 24, 1)"),
        ("recipe_cardiac_2d", "no mask", "no mask for it"),
        ("recipe_cardiac_2d", "unreadable", "not readable"),
        ("recipe_lgg_2d", "value", "found label 255; expected 0 to 1"),
        ("recipe_lgg_2d", "size", "found 24 x 24 pixels, expected 32 x 32"),
        ("recipe_lgg_2d", "no mask", "no mask for it"),
        ("recipe_lgg_2d", "grey", "expected 32 x 32 pixels, 3 channels"),
        ("recipe_lgg_2d", "unreadable", "not readable"),
        ("recipe_hipmri_2d", "unreadable", "not readable"),
        ("recipe_hipmri_2d", "no mask", "no mask for it"),
    ],
)
def test_wrong_input_ends_training_in_one_line(recipe, wrong, word, tmp_path):
    generate.generate(tmp_path / "data", patients=3, **RECIPES[recipe][0])
    entry = next(entry for entry in find_pairs(tmp_path / "data") if "label" in entry)
    inside = [sorted((tmp_path / "data").glob(entry[key].replace("*", "[0-9]")))[-1] for key in ("image", "label")]
    spoil, named = WRONG[wrong]
    spoil(*inside)
    paths = {"dataset_dir": tmp_path / "data", "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "out"}
    with pytest.raises(UserError) as caught:
        finish(made("train", recipe, epochs=1, **paths))
    message = str(caught.value)
    stem = dict(zip(("image", "mask"), inside))[named].name.split(".")[0]
    assert word in message and stem.rsplit("_", 2)[0] in message.split(": ")[0] and len(message.splitlines()) == 1
    assert not (tmp_path / "out" / "last.pt").exists()


def test_slices_without_a_recipe_are_refused(tmp_path, caplog):
    generate.generate(tmp_path / "data", patients=3, **RECIPES["recipe_hipmri_2d"][0])
    paths = {"dataset_dir": tmp_path / "data", "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "out"}
    with pytest.raises(UserError, match="found slices, expected a volume; .* add a recipe"):
        finish(workflow("train", ["train.json"], **paths))
    generate.generate(tmp_path / "volumes", patients=3, scans=1, size=(32, 32, 16))
    finish(workflow("train", ["train.json"], epochs=1, **{**paths, "dataset_dir": tmp_path / "volumes",
           "datalist": tmp_path / "other.json"}))  # fmt: skip
    with pytest.raises(UserError, match="1 of 1 cases failed"):
        finish(workflow("infer", ["inference.json"], **paths))
    assert "found slices, expected a volume" in caplog.text


def test_all_slices_of_one_channel_where_three_are_wanted(tmp_path):
    generate.generate(tmp_path / "data", patients=3, **RECIPES["recipe_lgg_2d"][0])
    for path in (tmp_path / "data").rglob("*[0-9].tif"):
        Image.open(path).convert("L").save(path)
    paths = {"dataset_dir": tmp_path / "data", "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "out"}
    with pytest.raises(UserError, match=r"_\*\.tif: found 1 channel\(s\), expected 3; .* \(and 2 more"):
        finish(made("train", "recipe_lgg_2d", epochs=1, **paths))


@pytest.mark.parametrize(
    "recipe, name, published",
    [
        ("recipe_lgg_2d", "unet_32", {"neighbours": 0, "norm": "batch"}),
        ("recipe_cardiac_2d", "cardiac_unet_2", {}),
        ("recipe_hipmri_2d", "unet_64", {}),
        ("recipe_hipmri_residual_attention", "residual_attention_unet", {}),
    ],
)
def test_a_recipe_has_the_network_of_that_name(recipe, name, published):
    networks = []
    for change in ({}, {"network_def": f"%configs/networks.json::{name}"}):
        run = workflow("train", ["train.json", f"{recipe}.json"], base={"num_workers": 0}, **published, **change)
        run.initialize()
        networks.append(str(run.parser.get_parsed_content("network_def")))
    assert networks[0] == networks[1]


def test_the_documents_example_is_short_and_runs(tmp_path):
    text = (BUNDLE / "docs" / "recipes.md").read_text(encoding="utf-8")
    example = text.split("```json\n")[1].split("```")[0]
    assert len(example.splitlines()) <= 40
    (tmp_path / "recipe_lesions.json").write_text(example, encoding="utf-8")
    generate.generate(tmp_path / "data", layout="cardiac_png", patients=3, scans=1, size=(32, 32))
    for file in tmp_path.rglob("*_mask.png"):
        Image.fromarray((np.asarray(Image.open(file)) > 1).astype(np.uint8) * 255).save(file)
    options = {"spatial_size": [32, 32], "epochs": 1, "num_workers": 0, "cache_workers": 1}
    paths = {"dataset_dir": tmp_path / "data", "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "out"}
    patch = str(tmp_path / "recipe_lesions.json")
    finish(workflow("train", ["train.json", patch], base=options, **paths))
    finish(workflow("infer", ["inference.json", patch], base={"num_workers": 0, "spatial_size": [32, 32]}, **paths))
    (made_map,) = (tmp_path / "out").glob("*_seg.png")
    assert set(np.unique(Image.open(made_map))) <= {0, 255}


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name.endswith("_2d")])
def test_the_strong_training_of_slices_fits_their_recipes(recipe, tmp_path):
    """A batch has slices of several scans, as plain tensors; what is kept is the average, that of batch norm too."""
    generate.generate(tmp_path / "data", patients=5, **RECIPES[recipe][0])
    paths = {"dataset_dir": tmp_path / "data", "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "out"}
    tiny = RECIPES[recipe][1] | {"slices_per_scan": 2, "copies": 4, "epochs": 1, "keep_last": True}
    files = ["train.json", f"{recipe}.json", "strong_2d.json"]
    run = workflow("train", files, base={"num_workers": 0, "cache_workers": 1}, **tiny, **paths)
    run.initialize()
    batch = next(iter(run.parser.get_parsed_content("train::dataloader")))
    assert type(batch["image"]) is torch.Tensor and batch["image"].shape[::2] == (8, tiny["spatial_size"][0])
    assert batch["label"].shape == (8, 1, *tiny["spatial_size"])
    run.run()
    network, averaged = (run.parser.get_parsed_content(name).state_dict() for name in ("network", "averaged"))
    kept = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    for name, value in network.items():
        assert torch.equal(kept[name], averaged[name]), name
        if name.endswith(("weight", "running_mean")):
            assert not torch.equal(value, averaged[name]), name
    run.finalize()


def test_copies_are_drawn_again_but_cached_once(tmp_path):
    generate.generate(tmp_path / "data", layout="cardiac_png", patients=5, scans=1, size=(64, 64))
    paths = {"dataset_dir": tmp_path / "data", "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "out"}
    still = ("rotate_range", "scale_range", "shift_range", "elastic_shift", "contrast_probability")
    run = made("train", "recipe_cardiac_2d", **dict.fromkeys(still, 0.0), **paths)
    run.initialize()
    dataset = run.parser.get_parsed_content("train::dataloader").dataset
    cached = run.parser.get_parsed_content("train::dataset")
    count = len(run.parser.get_parsed_content("data")["training"])
    assert len(dataset) == 2 * count and len(cached._cache) == count
    drawn = [(dataset[0]["image"], dataset[count]["image"]) for _ in range(20)]
    assert any(not torch.equal(*pair) for pair in drawn) and any(torch.equal(*pair) for pair in drawn)
