"""The shipped configurations: parity, properties, and tiny runs of every one of them."""

import gzip
import hashlib
import json
import logging
import re
import shutil
import sys

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import BUNDLE, CONFIGS, run, workflow
from helpers import measured, rows
from ignite.engine import Events
from monai.bundle import ConfigParser
from scipy.ndimage import label
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts.core.errors import UserError
from scripts.data import datalist
from scripts.phantoms import generate
from scripts.report import commands
from scripts.report.measures import MEASURES
from scripts.run import command_line
from scripts.training.weights import read_weights

EVALUATE = ["train.json", "evaluate.json"]


def read(name: str) -> dict:
    return json.loads((CONFIGS / name).read_text())


def segment(trained, output_dir, **overrides):
    """Inference on the test split of the trained fixture's own datalist."""
    paths = {"dataset_dir": trained / "datalist.json", "ckpt_dir": trained / "models", "output_dir": output_dir}
    run("infer", ["inference.json"], **paths, **overrides)


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory):
    """Two epochs of the shipped training; the folder holds its output and, below models/, its checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    run("train", ["train.json"], dataset_dir=phantoms, output_dir=folder, ckpt_dir=folder / "models", epochs=2)
    return folder


# parity


@pytest.mark.parametrize(
    "key", ["class_names", "spatial_size", "features", "dropout", "deterministic_chain", "network_def"]
)
def test_train_and_inference_share(key):
    assert read("train.json")[key] == read("inference.json")[key]


@pytest.mark.parametrize("key", ["weights", "single_piece", "keep_largest"])
def test_evaluate_and_inference_share(key):
    assert read("evaluate.json")[key] == read("inference.json")[key]


@pytest.mark.parametrize("key", ["imports", "device", "validate::sampler", "initialize"])
def test_multi_gpu_patches_share(key):
    assert read("multi_gpu_train.json")[key] == read("multi_gpu_evaluate.json")[key]


def test_the_status_is_given_last():
    """After locks, log file and process group: what was done is done."""
    train, evaluate, inference = (read(f"{name}.json")["finalize"] for name in ("train", "evaluate", "inference"))
    assert evaluate == inference == [*train, "$@journal.exit_with_status()"]
    several = [read(f"multi_gpu_{name}.json")["finalize"] for name in ("train", "evaluate")]
    assert several[1] == [*several[0], "$@journal.exit_with_status()"] and several[0][:1] == train


def test_train_and_validate_have_the_same_members():
    train, validate = read("train.json")["train"], read("train.json")["validate"]
    assert [k.replace("trainer", "evaluator") for k in train] == list(validate)


@pytest.mark.parametrize(
    "patch", ["evaluate.json", "demo.json", "resize_last.json", "multi_gpu_train.json", "multi_gpu_evaluate.json"]
)
def test_every_id_of_a_patch_is_used(patch):
    """An id is used if the base has it, or if something refers to it."""
    bases = [read("train.json"), read("evaluate.json"), read("inference.json")]
    everything = json.dumps([*bases, read(patch)])
    for name in read(patch):
        if name.startswith("_desc") or name in ("imports", "initialize", "finalize", "evaluating", "run"):
            continue
        parser = ConfigParser({**bases[0], **read("evaluate.json")} if "::" in name else bases[0])
        assert (
            name in parser
            or command_line.is_argument(name, command_line.known_ids()[1])
            or re.search(rf"@{name}\b", everything)
        ), f"{patch}: nobody uses {name}"


def test_phantoms_have_the_configured_classes():
    assert list(generate.CLASSES) == read("train.json")["class_names"]


def test_metadata_repeats_the_configuration():
    meta, train = read("metadata.json"), read("train.json")
    image, pred = (meta["network_data_format"][k][v] for k, v in (("inputs", "image"), ("outputs", "pred")))
    assert list(pred["channel_def"].values()) == train["class_names"]
    assert image["spatial_shape"] == pred["spatial_shape"] == train["spatial_size"]
    assert (image["num_channels"], pred["num_channels"]) == (1, len(train["class_names"]))
    assert meta["version"] in meta["changelog"]


def test_metadata_pins_what_the_requirements_pin():
    meta = read("metadata.json")
    lines = (BUNDLE.parent / "requirements.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    named = {"monai": meta["monai_version"], "torch": meta["pytorch_version"], "numpy": meta["numpy_version"]}
    for package, version in {**named, **meta["required_packages_version"]}.items():
        assert pinned[package] == version, package


def test_imports_of_the_scripts_are_pinned():
    """Everything the scripts import comes with Python, from the bundle, or is named in the metadata."""
    distribution = {"ignite": "pytorch-ignite", "PIL": "pillow"}
    meta = read("metadata.json")
    known = {"monai", "torch", "numpy", "scripts", *meta["required_packages_version"]}
    for file in sorted((BUNDLE / "scripts").rglob("*.py")):
        for module in re.findall(r"^\s*(?:from|import) (\w+)", file.read_text(), re.MULTILINE):
            if module not in sys.stdlib_module_names:
                assert distribution.get(module, module) in known, f"{file.name} imports {module}"


@pytest.mark.parametrize("files, kind", [(["train.json"], "train"), (["inference.json"], "infer"), (EVALUATE, "train")])
def test_check_properties(files, kind, trained, phantoms, tmp_path):
    made = workflow(kind, files, dataset_dir=phantoms, output_dir=trained, ckpt_dir=tmp_path)
    made.initialize()
    assert made.check_properties() == []


# transforms


def chain(name, phantoms, tmp_path, **overrides):
    made = workflow("train", ["train.json"], dataset_dir=phantoms, output_dir=tmp_path, **overrides)
    made.initialize()
    return made.parser.get_parsed_content(name), made.parser.get_parsed_content("data")["training"][0]


def test_deterministic_chain_normalises_and_keeps_label_values(phantoms, tmp_path):
    preprocessing, case = chain("validate::preprocessing", phantoms, tmp_path, spatial_size=[48, 40, 24])
    item = preprocessing(case)
    assert item["image"].shape == item["label"].shape == (1, 48, 40, 24)
    assert (item["image"].dtype, item["label"].dtype) == (torch.float32, torch.uint8)
    assert abs(item["image"].mean()) < 1e-4 and abs(item["image"].std() - 1) < 1e-3
    assert set(item["label"].unique().tolist()) == set(range(6))


def test_no_class_arises_between_two_others(phantoms, tmp_path):
    """Averaged labels put a false rim around every organ: 0 next to 5 would turn 2 or 3."""
    labels = np.zeros((32, 32, 16), np.uint8)
    labels[8:23, 9:20, 5:12] = 5
    for name in ("image", "label"):
        nib.save(
            nib.Nifti1Image(labels if name == "label" else labels.astype(np.float32), np.eye(4)),
            tmp_path / f"{name}.nii",
        )
    preprocessing, _ = chain("validate::preprocessing", phantoms, tmp_path, spatial_size=[24, 24, 24])
    item = preprocessing({"image": str(tmp_path / "image.nii"), "label": str(tmp_path / "label.nii")})
    assert item["label"].unique().tolist() == [0, 5]


def test_label_resize_is_centred(phantoms, tmp_path):
    """A structure keeps its centre and volume when the grid is halved; nearest neighbour shifts it by half a voxel."""
    labels = np.zeros((64, 64, 32), np.uint8)
    labels[20:40, 12:32, 8:20] = 3
    for name in ("image", "label"):
        nib.save(nib.Nifti1Image(labels.astype(np.float32), np.eye(4)), tmp_path / f"{name}.nii")
    preprocessing, _ = chain("validate::preprocessing", phantoms, tmp_path, spatial_size=[32, 32, 16])
    small = preprocessing({"image": str(tmp_path / "image.nii"), "label": str(tmp_path / "label.nii")})["label"]
    centre = (np.argwhere(small[0].numpy() == 3).mean(0) + 0.5) * 2
    assert np.allclose(centre, [30, 22, 14])
    assert (small == 3).sum() * 8 == (labels == 3).sum()


def test_random_chain_keeps_values_and_moves_image_and_label_alike(phantoms, tmp_path):
    preprocessing, case = chain("train::preprocessing", phantoms, tmp_path, noise_std=0.0)
    still, _ = chain("validate::preprocessing", phantoms, tmp_path)
    case = {"image": case["label"], "label": case["label"]}  # the label as its own image
    moved, unmoved = preprocessing(case), still(case)
    assert not torch.equal(moved["label"], unmoved["label"])
    assert set(moved["label"].unique().tolist()) <= set(range(6))
    body = moved["label"] > 0
    assert moved["image"][body].mean() > moved["image"][~body].mean() + 1
    first = [float(moved["image"][moved["label"] == value].mean()) for value in (0, 1, 2, 3)]
    assert first == sorted(first)


def test_rotation_and_noise_of_zero_change_nothing(phantoms, tmp_path):
    preprocessing, case = chain(
        "train::preprocessing", phantoms, tmp_path, rotate_range=0.0, noise_std=0.0, flip_probability=0.0
    )
    still, _ = chain("validate::preprocessing", phantoms, tmp_path)
    moved, unmoved = preprocessing(case), still(case)
    assert torch.allclose(moved["image"], unmoved["image"], atol=1e-4)
    assert torch.equal(moved["label"], unmoved["label"])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flip_twice_is_identity(axis, phantoms, tmp_path):
    random_chain, case = chain("random_chain", phantoms, tmp_path, flip_axis=axis, flip_probability=1.0)
    still, _ = chain("validate::preprocessing", phantoms, tmp_path)
    item, flip = still(case), random_chain[1]
    once = flip(dict(item))
    assert torch.equal(once["image"], torch.flip(item["image"], [axis + 1]))
    assert torch.equal(flip(dict(once))["image"], item["image"])


def test_flip_axis_0_is_left_right(phantoms, tmp_path):
    still, case = chain("validate::preprocessing", phantoms, tmp_path)
    assert nib.aff2axcodes(still(case)["image"].affine.numpy()) == ("R", "A", "S")


def test_noise_has_the_declared_spread(phantoms, tmp_path):
    random_chain, case = chain("random_chain", phantoms, tmp_path, noise_std=0.3)
    still, _ = chain("validate::preprocessing", phantoms, tmp_path)
    item = still(case)
    noise = random_chain[2](dict(item))["image"] - item["image"]
    assert abs(float(noise.std()) - 0.3) < 0.02 and abs(float(noise.mean())) < 0.02


def test_invert_returns_the_grid(phantoms, tmp_path):
    """Down to the network's grid and back: the label comes home to the same voxels."""
    preprocessing, case = chain("validate::preprocessing", phantoms, tmp_path, spatial_size=[64, 64, 32])
    item = preprocessing(case)
    back = preprocessing.inverse({"image": item["image"]})["image"]
    original = nib.load(case["image"])
    assert back.shape[1:] == original.shape
    assert np.allclose(back.affine.numpy(), original.affine)


# training


def test_training_leaves_its_record(trained):
    table = rows(trained / "history.csv")
    assert [row["epoch"] for row in table] == ["1", "2"]
    names = read("train.json")["class_names"]
    for row in table:
        assert float(row["learning_rate"]) == pytest.approx(5e-4 * 0.985 ** (int(row["epoch"]) - 1))
        for side in ("train", "val"):
            values = [float(row[f"{side}_dice_{name}"]) for name in names]
            assert all(0 <= value <= 1 for value in values)
            assert float(row[f"{side}_mean_dice"]) == pytest.approx(np.mean(values[1:]), abs=2e-3)
    assert matplotlib.image.imread(trained / "progress.png").shape[1] > 800
    assert "Research use only" in (trained / "training.log").read_text()


def test_best_checkpoint_is_the_best_epoch(trained):
    saved = read_weights(trained / "models" / "model.pt")
    scores = [float(row["val_mean_dice"]) for row in rows(trained / "history.csv")]
    assert saved.info["score"] == pytest.approx(max(scores), abs=1e-4)
    assert saved.info["class_names"] == read("train.json")["class_names"]
    assert "phantoms" in saved.info["trained_on"]


def test_tensorboard_has_curves_and_pictures(trained):
    events = EventAccumulator(str(trained / "tensorboard")).Reload()
    scalars = events.Tags()["scalars"]
    for name in read("train.json")["class_names"]:
        assert f"train_dice_{name}" in scalars and f"val_dice_{name}" in scalars
    assert {"train_loss", "val_mean_dice"} <= set(scalars)
    assert events.Tags()["images"] == ["validation"]


def test_a_new_run_keeps_what_an_earlier_one_left(trained, phantoms, tmp_path):
    for epochs in (1, 1):
        run(
            "train",
            ["train.json"],
            dataset_dir=phantoms,
            output_dir=tmp_path,
            ckpt_dir=tmp_path / "models",
            epochs=epochs,
        )
    assert {"model.pt", "model.1.pt", "last.pt", "last.1.pt"} <= {p.name for p in (tmp_path / "models").iterdir()}
    assert (tmp_path / "history.1.csv").is_file()


def losses(folder) -> list[tuple]:
    return [tuple(v for k, v in row.items() if k != "seconds") for row in rows(folder / "history.csv")]


@pytest.mark.parametrize(
    ("files", "workers"), [(["train.json"], 0), (["train.json"], 2), (["train.json", "strong.json"], 0)]
)
def test_resumed_run_equals_an_unbroken_one(files, workers, phantoms, tmp_path):
    """Killed after the second epoch: the same curve, the same weights, to the last bit, also in bfloat16."""
    common = {"dataset_dir": phantoms, "num_workers": workers, "datalist": tmp_path / "datalist.json"}
    runs = {
        name: {"output_dir": tmp_path / name, "ckpt_dir": tmp_path / name / "models"} for name in ("whole", "broken")
    }
    run("train", files, epochs=4, **common, **runs["whole"])
    made = workflow("train", files, epochs=4, **common, **runs["broken"])
    made.initialize()
    trainer = made.parser.get_parsed_content("train::trainer")

    @trainer.on(Events.ITERATION_STARTED)
    def kill(engine):
        if engine.state.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.run()
    run("train", files, epochs=4, resume=True, **common, **runs["broken"])
    assert losses(tmp_path / "whole") == losses(tmp_path / "broken")
    for name in ("model.pt", "last.pt"):
        whole, broken = (read_weights(r["ckpt_dir"] / name) for r in runs.values())
        assert whole.info == broken.info
        for key, value in whole.networks[0].items():
            assert torch.equal(value, broken.networks[0][key]), key


def test_same_seed_same_curve(trained, phantoms, tmp_path):
    overrides = {"dataset_dir": phantoms, "output_dir": tmp_path, "ckpt_dir": tmp_path / "models", "epochs": 2}
    run("train", ["train.json"], **overrides)
    assert losses(trained) == losses(tmp_path)
    run("train", ["train.json"], **{**overrides, "seed": 1})
    assert losses(trained) != losses(tmp_path)


def test_accumulated_steps_equal_one_large_batch(phantoms, tmp_path):
    """Two batches of one case, accumulated, move the weights as one batch of two does."""
    still = {"rotate_range": 0.0, "noise_std": 0.0, "flip_probability": 0.0, "dropout": 0.0, "epochs": 1}
    content = datalist.make_datalist(str(phantoms), test=0.6, validation=0.2)
    content["training"] = content["training"][:2]
    datalist.write_datalist(content, tmp_path / "list.json")
    weights = []
    for name, sizes in (("one", {"batch_size": 2}), ("two", {"batch_size": 1, "accumulation_steps": 2})):
        folder = {"output_dir": tmp_path / name, "ckpt_dir": tmp_path / name, "datalist": tmp_path / "list.json"}
        run("train", ["train.json"], dataset_dir=phantoms, **folder, **still, **sizes)
        weights.append(torch.load(tmp_path / name / "last.pt", weights_only=True)["optimizer"]["state"])
    for key in weights[0]:
        assert torch.allclose(weights[0][key]["exp_avg"], weights[1][key]["exp_avg"], atol=1e-5), key


def test_resize_last_trains(phantoms, tmp_path):
    folder = {"output_dir": tmp_path, "ckpt_dir": tmp_path}
    run("train", ["train.json", "resize_last.json"], dataset_dir=phantoms, epochs=1, **folder)
    assert len(rows(tmp_path / "history.csv")) == 1


def test_early_stop(phantoms, tmp_path):
    folder = {"output_dir": tmp_path, "ckpt_dir": tmp_path}
    run("train", ["train.json"], dataset_dir=phantoms, epochs=6, early_stop_patience=1, learning_rate=0.0, **folder)
    assert len(rows(tmp_path / "history.csv")) == 2


def test_infinite_loss_stops_in_one_line_and_keeps_the_weights(phantoms, tmp_path):
    folder = {"output_dir": tmp_path, "ckpt_dir": tmp_path}
    run("train", ["train.json"], dataset_dir=phantoms, epochs=1, **folder)
    given = {"dataset_dir": phantoms, "epochs": 2, "resume": True, "loss::lambda_ce": float("inf")}
    with pytest.raises(UserError, match="loss::lambda_ce was 0.2, is inf"):
        run("train", ["train.json"], **given, **folder)
    given["resume_changed"] = True
    with pytest.raises(UserError, match="loss is nan|loss is inf") as error:
        run("train", ["train.json"], **given, **folder)
    assert "\n" not in str(error.value)
    saved = torch.load(tmp_path / "last.pt", weights_only=True)
    assert saved["epoch"] == 1 and all(torch.isfinite(value).all() for value in saved["model"].values())


# a data set of one's own


def test_own_classes_follow_everywhere(phantoms, tmp_path):
    """A Decathlon folder and --class_names are all it takes."""
    generate.generate(tmp_path / "data", patients=3, scans=1, size=(32, 32, 16), seed=2, layout="decathlon")
    (tmp_path / "data" / "dataset.json").unlink()
    for file in (tmp_path / "data" / "labelsTr").iterdir():
        labels = nib.load(file)
        two = (np.asarray(labels.dataobj) == 5).astype(np.uint8)
        nib.save(nib.Nifti1Image(two, labels.affine), file)
    own = {"class_names": ["background", "prostate"], "dataset_dir": tmp_path / "data"}
    folder = {"output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "models"}
    made = run("train", ["train.json"], epochs=1, **own, **folder)
    assert made.parser.get_parsed_content("network_def").segmentations[0].out_channels == 2
    assert "val_dice_prostate" in rows(tmp_path / "out" / "history.csv")[0]
    run("evaluate", EVALUATE, **own, **folder)
    (scored,) = measured(tmp_path / "out" / "metrics.csv").values()
    assert list(scored) == ["prostate"]
    run("infer", ["inference.json"], **own, output_dir=tmp_path / "pred", ckpt_dir=tmp_path / "models", pictures=False)
    assert list(rows(tmp_path / "pred" / "volumes.csv")[0]) == ["case", "prostate_ml"]


# evaluation and inference


def test_evaluation_scores_the_test_split_on_the_original_grid(trained, phantoms):
    run(
        "evaluate",
        EVALUATE,
        dataset_dir=phantoms,
        output_dir=trained,
        ckpt_dir=trained / "models",
        spatial_size=[48, 48, 32],
    )
    listed = json.loads((trained / "datalist.json").read_text())["test"]
    written = json.loads((trained / "metrics.json").read_text())
    assert [case["patient"] for case in written["metric_per_case"]] == sorted(entry["patient"] for entry in listed)
    assert set(written["classes"]) == set(read("train.json")["class_names"][1:])
    shown = dict(written["about"])
    assert hashlib.sha256((trained / "models" / "model.pt").read_bytes()).hexdigest() in shown["Checkpoint"]
    assert hashlib.sha256((trained / "datalist.json").read_bytes()).hexdigest() in shown["Data list"]
    assert shown["Split"] == "test" and "not patients" in shown["Trained on"] and "s median" in shown["Time per case"]
    text = (trained / "report.md").read_text()
    assert "Research use only" in text and listed[0]["patient"] in text
    page = (trained / "report.html").read_text()
    assert "Training" in page and page.count("data:image/jpeg") > 20  # the curves too: history.csv is at hand


@pytest.mark.parametrize("anonymise", [True, "a word"])
def test_no_file_of_an_anonymous_report_holds_a_name(anonymise, trained, phantoms, tmp_path):
    given = {"dataset_dir": phantoms, "ckpt_dir": trained / "models", "anonymise": anonymise}
    run("evaluate", EVALUATE, **given, output_dir=tmp_path / "scores", datalist=trained / "datalist.json")
    run("infer", ["inference.json"], **given, output_dir=tmp_path / "maps")
    files = [path for folder in ("scores", "maps") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert len(files) > 4 + 3 + 2 * 10
    for file in files:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        assert b"Case_0" not in content and "Case_0" not in file.name, file.name


def test_evaluation_agrees_with_the_files_that_inference_writes(trained, phantoms, tmp_path):
    """Dice from the label maps on disk and the truth on disk, by counting voxels, equals the evaluation's."""
    run("evaluate", EVALUATE, dataset_dir=phantoms, output_dir=trained, ckpt_dir=trained / "models")
    segment(trained, tmp_path)
    labels = {
        datalist.case_name(e["image"]): phantoms / e["label"]
        for e in json.loads((trained / "datalist.json").read_text())["test"]
    }
    names = read("train.json")["class_names"]
    scored = measured(trained / "metrics.csv")
    assert sorted(scored) == sorted(labels)
    for case, dice in scored.items():
        truth = np.asarray(nib.load(labels[case]).dataobj)
        found = np.asarray(nib.load(tmp_path / f"{case}_seg.nii.gz").dataobj)
        for value, name in enumerate(names[1:], start=1):
            both, either = np.sum((truth == value) & (found == value)), np.sum(truth == value) + np.sum(found == value)
            assert dice[name] == pytest.approx(2 * both / either, abs=1e-4), name


def test_a_report_from_the_files_equals_the_evaluations(trained, phantoms, tmp_path):
    """Scored in the workflow or from the label maps that inference wrote: every measure of every case is the same."""
    run("evaluate", EVALUATE, dataset_dir=phantoms, output_dir=trained, ckpt_dir=trained / "models")
    segment(trained, tmp_path / "maps", pictures=False)
    listed = json.loads((trained / "datalist.json").read_text())["test"]
    for entry in listed:
        (tmp_path / "truth").mkdir(exist_ok=True)
        shutil.copy(phantoms / entry["label"], tmp_path / "truth")
    commands.evaluate(tmp_path / "truth", tmp_path / "maps", tmp_path / "scores", read("train.json")["class_names"])
    for measure in MEASURES:
        own, other = (measured(folder / "metrics.csv", measure) for folder in (trained, tmp_path / "scores"))
        assert list(own) == list(other) and own
        for case in own:
            assert own[case] == pytest.approx(other[case], rel=1e-4, abs=1e-4, nan_ok=True), (measure, case)


def oblique(shape=(36, 30, 20)) -> np.ndarray:
    rotation = np.linalg.qr(np.array([[0.9, 0.3, -0.1], [-0.2, 0.95, 0.2], [0.15, -0.1, 0.97]]))[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-5.0, 6.0, 4.0])
    affine[:3, 3] = [80, -70, -33]
    return affine


@pytest.mark.parametrize(
    "shape, affine",
    [
        ((36, 30, 20), oblique()),
        ((20, 36, 30), oblique()[:, [2, 0, 1, 3]]),
        ((33, 47, 21), np.diag([-3.3, -3.3, 5.0, 1.0])),
    ],
    ids=["oblique", "permuted axes", "odd sizes, LPS"],
)
def test_inference_answers_on_the_grid_it_was_given(shape, affine, trained, tmp_path):
    image = nib.Nifti1Image(np.random.default_rng(0).random(shape, np.float32), affine)
    image.set_sform(affine, 2)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "scan.nii.gz")
    run(
        "infer",
        ["inference.json"],
        dataset_dir=tmp_path / "scan.nii.gz",
        output_dir=tmp_path / "out",
        ckpt_dir=trained / "models",
    )
    result = nib.load(tmp_path / "out" / "scan_seg.nii.gz")
    assert result.shape == shape and result.get_data_dtype() == np.uint8
    assert np.array_equal(result.affine, nib.load(tmp_path / "scan.nii.gz").affine)
    assert (int(result.header["sform_code"]), int(result.header["qform_code"])) == (2, 1)
    assert result.header.get_xyzt_units() == ("mm", "sec")


def test_an_ras_copy_gets_the_same_labels_in_space(trained, phantoms, tmp_path):
    source = nib.load(next(phantoms.glob("semantic_MRs*/*.nii.gz")))
    for name, image in (("lps", source), ("ras", nib.as_closest_canonical(source))):
        nib.save(image, tmp_path / f"{name}.nii.gz")
    run(
        "infer",
        ["inference.json"],
        dataset_dir=tmp_path,
        output_dir=tmp_path / "out",
        ckpt_dir=trained / "models",
        pictures=False,
    )
    lps, ras = (nib.load(tmp_path / "out" / f"{name}_seg.nii.gz") for name in ("lps", "ras"))
    assert nib.aff2axcodes(lps.affine) == ("L", "P", "S") and nib.aff2axcodes(ras.affine) == ("R", "A", "S")
    assert np.array_equal(np.asarray(nib.as_closest_canonical(lps).dataobj), np.asarray(ras.dataobj))


def test_sliding_window_and_clean_up(trained, phantoms, tmp_path):
    """A window smaller than the volume still covers it; the clean-up leaves one piece of each class."""
    common = {"dataset_dir": trained / "datalist.json", "ckpt_dir": trained / "models", "pictures": False}
    run("infer", ["inference.json"], **common, output_dir=tmp_path, sliding_window=True, keep_largest=True,
        single_piece=["body", "bones"])  # fmt: skip
    for file in tmp_path.glob("*_seg.nii.gz"):
        found = np.asarray(nib.load(file).dataobj)
        assert all(label(found == value)[1] <= 1 for value in (1, 2))


def test_inference_says_what_the_weights_were_trained_on(trained, phantoms, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        segment(trained, tmp_path)
    assert "not patients" in caplog.text and "Research use only" in caplog.text


# wrong things


@pytest.mark.parametrize(
    "kind, files, overrides, expected",
    [
        ("train", ["train.json"], {"dataset_dir": "nowhere"}, "nowhere: dataset_dir does not exist"),
        ("train", ["train.json"], {"spatial_size": [100, 96, 48]}, r"\(100, 96, 48\).*multiple of 16.*\(112, 96, 48\)"),
        ("train", ["train.json"], {"class_names": ["background"]}, "2 or more"),
        ("evaluate", EVALUATE, {}, "no such datalist"),
        ("infer", ["inference.json"], {}, "no weights there yet"),
        ("infer", ["inference.json"], {"dataset_dir": "nowhere.nii.gz"}, "no weights there yet"),
    ],
)
def test_mistakes_get_one_line(kind, files, overrides, expected, phantoms, tmp_path):
    folders = {"dataset_dir": phantoms, "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "models"}
    with pytest.raises(UserError, match=expected) as error:
        run(kind, files, **{**folders, **overrides})
    assert "\n" not in str(error.value)
