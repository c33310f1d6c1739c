"""Scans that are stored slice by slice: found, read, refused, written."""

import json
import os

import nibabel as nib
import numpy as np
import pytest
from helpers import refusal
from monai.transforms import Compose, LoadImaged, Orientationd
from PIL import Image

from scripts.check.cache import collect_facts
from scripts.check.dataset import check_listed, find_faults
from scripts.data.datalist import list_images, make_datalist, prepare_datalist, read_datalist
from scripts.data.label_maps import read_labels
from scripts.data.layouts import find_images, find_pairs
from scripts.data.names import case_name
from scripts.data.slices import SliceReader, is_sliced, read_slices, scan_exists, scan_files, write_label_pictures
from scripts.phantoms import generate

TWO = ["background", "tumour"]
FOUR = ["background", "a", "b", "c"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Phantoms in each of the three layouts."""
    root = tmp_path_factory.mktemp("slices")
    generate.generate(root / "keras", layout="keras_slices", patients=3, scans=1, size=(32, 32, 16), slices=6)
    generate.generate(root / "cardiac", layout="cardiac_png", patients=4, scans=1, size=(64, 64))
    generate.generate(root / "lgg", layout="lgg_tiff", patients=3, size=(32, 32), slices=4)
    return root


def grey(path, values) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


@pytest.fixture
def pair(tmp_path):
    """A picture and its mask, as the cardiac layout has them; functions spoil one of the two."""
    rng = np.random.default_rng(0)
    grey(tmp_path / "train/image/cmr1.png", rng.integers(0, 255, (40, 32)))
    grey(tmp_path / "train/mask/cmr1_mask.png", rng.integers(0, 4, (40, 32)))
    return tmp_path


# names


def test_a_stack_is_its_files_in_order(tmp_path):
    for number in (10, 2, 1):
        (tmp_path / f"p_{number}.tif").touch()
        (tmp_path / f"p_{number}_mask.tif").touch()
    assert [path.name for path in scan_files(tmp_path / "p_*.tif")] == ["p_1.tif", "p_2.tif", "p_10.tif"]
    assert [path.name for path in scan_files(tmp_path / "p_*_mask.tif")][0] == "p_1_mask.tif"
    assert scan_files(tmp_path / "alone.png") == [tmp_path / "alone.png"]
    assert (
        scan_exists(tmp_path / "p_*.tif")
        and not scan_exists(tmp_path / "q_*.tif")
        and not scan_exists(tmp_path / "none/p_*.tif")
    )


def test_two_files_of_one_number(tmp_path):
    for number in ("1", "01", "2"):
        (tmp_path / f"P1_{number}.tif").touch()
    message = refusal(scan_files, tmp_path / "P1_*.tif")
    assert message.startswith(f"{tmp_path / 'P1_1.tif'}: the same slice 1 as P1_01.tif; expected one file")


def test_a_volume_whose_name_tells_the_distance_of_slices_is_no_slice(tmp_path):
    volumes = ["p1.nii.gz", "p2_slice_3mm.nii.gz", "p3_slice_1.5mm_t2.nii"]
    for name in volumes:
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path)] == volumes
    names = ("slice_0.nii.gz", "a_slice_12_seg.nii", "A_SLICE_3.NII.GZ", "a_slice_*.nii.gz", "a_slice_*_seg.nii.gz")
    assert all(is_sliced(name) for name in names)


@pytest.mark.parametrize(
    "path, name",
    [
        ("keras_slices_test/case_040_week_0_slice_*.nii.gz", "case_040_week_0"),
        ("case_040_week_0_slice_7.nii.gz", "case_040_week_0_slice_7"),
        ("image/cmr121.png", "cmr121"),
        ("TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_*.tif", "TCGA_CS_4941_19960909"),
        ("TCGA_CS_4941_19960909_12.tif", "TCGA_CS_4941_19960909_12"),
        ("Case_004_Week0_LFOV.nii.gz", "Case_004_Week0_LFOV"),
    ],
)
def test_what_a_case_is_called(path, name):
    assert case_name(path) == name


# layouts


def test_the_split_of_the_folders_is_kept(data):
    for folder, counts in (("keras", [1, 1, 1]), ("cardiac", [2, 1, 1])):
        content = make_datalist(data / folder, validation=0.5, test=0.3, seed=3)
        assert [len(content[split]) for split in ("training", "validation", "test")] == counts
    assert "label" not in content["test"][0] and "label" in content["validation"][0]
    assert content["training"][0]["image"].startswith("train/image/cmr")


def test_a_stack_is_one_case_of_one_patient(data):
    (first, *_) = find_pairs(data / "keras")
    assert first["patient"] == "004" and first["week"] == 0
    assert first["image"] == "keras_slices_train/case_004_week_0_slice_*.nii.gz"
    assert first["label"] == "keras_slices_seg_train/seg_004_week_0_slice_*.nii.gz"
    entries = find_pairs(data / "lgg")
    assert len(entries) == 3 and all(entry["label"].endswith("_*_mask.tif") for entry in entries)


def test_by_slice_every_slice_is_a_patient_and_the_list_says_that_this_leaks(data):
    content = make_datalist(data / "lgg", by_slice=True, validation=0.3, test=0.3)
    entries = [entry for split in ("training", "validation", "test") for entry in content[split]]
    assert len(entries) == len({entry["patient"] for entry in entries}) == 12
    assert "split by slice, which leaks" in content["description"]
    sides = {split: {entry["image"].split("/")[1] for entry in content[split]} for split in ("training", "test")}
    assert sides["training"] & sides["test"], "no person on two sides: then nothing leaks"


def test_training_without_a_validation_folder_lends_it_some(data, tmp_path):
    for number in range(1, 7):
        grey(tmp_path / f"train/image/cmr{number}.png", np.eye(8) * number)
        grey(tmp_path / f"train/mask/cmr{number}_mask.png", np.eye(8))
    grey(tmp_path / "test/image/cmr7.png", np.eye(8))
    content = make_datalist(tmp_path, validation=0.34)
    assert [len(content[split]) for split in ("training", "validation", "test")] == [4, 2, 1]


@pytest.mark.parametrize("folder, count", [("keras", 1), ("cardiac", 1), ("lgg", 3)])
def test_inference_finds_the_images_and_no_masks(data, folder, count):
    found = [str(path) for path in find_images(data / folder)]
    assert len(found) == count and not any("mask" in path or "seg" in path for path in found)


def test_inference_takes_a_stack_by_its_name_a_slice_and_a_list(data, tmp_path):
    stack = next(iter((data / "lgg").rglob("*_1.tif"))).with_name("*.tif").parent / "x"
    stack = next(path for path in find_images(data / "lgg"))
    assert list_images(str(stack)) == [{"image": str(stack)}]
    slice_ = scan_files(stack)[0]
    assert list_images(str(slice_)) == [{"image": str(slice_)}]
    (tmp_path / "list.json").write_text(json.dumps({"test": [str(stack)]}))
    assert list_images(str(tmp_path / "list.json"))[0]["image"] == str(stack)


def test_a_slice_without_its_mask(data, pair):
    (pair / "train/mask/cmr1_mask.png").unlink()
    grey(pair / "train/mask/cmr2_mask.png", np.eye(8))
    assert "cmr1.png: no mask for it" in refusal(find_pairs, pair)
    (pair / "train/image/cmr1.png").unlink()
    assert "cmr2_mask.png: no image for it" in refusal(find_pairs, pair)


def test_a_slice_of_a_stack_without_its_mask(data, tmp_path):
    for name in ("p_1.tif", "p_1_mask.tif", "p_2.tif", "q_1.tif"):
        grey(tmp_path / f"kaggle_3m/{name[0]}/{name}", np.eye(8))
    assert "p_2.tif: no mask for it" in refusal(find_pairs, tmp_path)


# reading


def test_monai_reads_what_is_in_the_files(data):
    load = LoadImaged("image", reader=SliceReader, ensure_channel_first=True, image_only=True)
    stack = next(path for path in find_images(data / "lgg"))
    volume = load({"image": str(stack)})["image"]
    assert volume.shape == (3, 32, 32, 4)
    third = np.asarray(Image.open(scan_files(stack)[2]))  # rows, columns, colours
    assert np.array_equal(volume[:, :, :, 2].numpy(), third.transpose(2, 1, 0))
    picture = load({"image": str(data / "cardiac/val/image" / sorted((data / "cardiac/val/image").iterdir())[0].name)})
    assert picture["image"].shape == (1, 64, 64, 1)


def test_slices_and_the_volume_they_came_from_are_one(tmp_path):
    """Sagittal slices, restacked and turned as the recipe turns them, equal the phantom's volume turned likewise."""
    shared = {"patients": 3, "scans": 1, "size": (32, 32, 16), "seed": 5}
    generate.generate(tmp_path / "slices", layout="keras_slices", **shared)
    generate.generate(tmp_path / "volumes", layout="hipmri", **shared)
    load = Compose(
        [
            LoadImaged("image", reader=SliceReader, ensure_channel_first=True, image_only=True),
            Orientationd("image", axcodes="PSL", labels=None),
        ]
    )
    for stack, volume in zip(
        [tmp_path / "slices" / entry["image"] for entry in find_pairs(tmp_path / "slices")],
        [tmp_path / "volumes" / entry["image"] for entry in find_pairs(tmp_path / "volumes")],
    ):
        first, second = (load({"image": str(path)})["image"] for path in (stack, volume))
        assert first.shape == second.shape and np.array_equal(first.numpy(), second.numpy())
        assert np.allclose(first.pixdim, second.pixdim)


def test_black_and_white_is_a_mask_of_one_class_but_grey_is_not(tmp_path):
    grey(tmp_path / "a_1_mask.tif", [[0, 0], [0, 0]])
    grey(tmp_path / "a_2_mask.tif", [[0, 255], [255, 0]])
    values, _ = read_slices(tmp_path / "a_*_mask.tif")
    assert values.shape == (2, 2, 2) and values.sum() == 2 and values.max() == 1
    grey(tmp_path / "b.png", [[0, 255], [3, 0]])
    assert read_slices(tmp_path / "b.png")[0].max() == 255


def palette(path):
    Image.open(path).convert("P").save(path)


def transparent(path):
    Image.open(path).convert("RGBA").save(path)


def colour(path):
    Image.open(path).convert("RGB").save(path)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-200])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def text(path):
    path.write_text("<html>not found</html>")


def emptied(path):
    path.write_bytes(b"")


def smaller(path):
    Image.open(path).resize((20, 20)).save(path)


def black(path):
    grey(path, np.zeros((40, 32)))


def other_class(path):
    values = np.asarray(Image.open(path)).copy()
    values[3, 3] = 9
    grey(path, values)


@pytest.mark.parametrize(
    "side, spoil, word",
    [
        ("image", palette, "palette"), ("mask", palette, "palette"), ("image", transparent, "transparency"),
        ("image", colour, "found 3 channel(s), expected 1"), ("mask", colour, "expected a mask of one"),
        ("image", cut_short, "not readable"), ("mask", cut_short, "not readable"), ("image", flipped, "not readable"),
        ("image", text, "not readable"), ("mask", emptied, "not readable"),
        ("mask", smaller, "found shape (20, 20, 1)"),
        ("image", smaller, "expected (20, 20, 1)"),
        ("image", black, "value 0 everywhere"),
        ("mask", other_class, "found label 9; expected 0 to 3"),
    ],
)  # fmt: skip
def test_a_wrong_picture_is_named_in_one_line(pair, side, spoil, word):
    files = {"image": pair / "train/image/cmr1.png", "mask": pair / "train/mask/cmr1_mask.png"}
    assert find_faults(*files.values(), FOUR, 1) == []
    spoil(files[side])
    (line,) = find_faults(*files.values(), FOUR, 1)
    assert word in line and "cmr1" in line.split(": ")[0] and len(line.splitlines()) == 1
    if "found shape" not in word and "expected (" not in word:
        assert line.startswith(str(files[side]))


def test_a_stack_with_one_channel_where_three_are_wanted(data):
    stack = find_pairs(data / "lgg")[0]
    image, label = (data / "lgg" / stack[key] for key in ("image", "label"))
    assert find_faults(image, label, TWO, 3) == []
    assert "found 3 channel(s), expected 1" in find_faults(image, label, TWO, 1)[0]
    assert "found 1 channel(s), expected 3" in find_faults(find_images(data / "cardiac")[0], None, FOUR, 3)[0]


def test_slices_of_two_sizes_a_missing_one_and_none_at_all(tmp_path):
    for number, side in ((1, 8), (2, 8), (3, 9)):
        grey(tmp_path / f"p_{number}.tif", np.eye(side))
    assert "p_3.tif: found 9 x 9 pixels, expected 8 x 8 pixels as p_1.tif has" in refusal(
        read_slices, tmp_path / "p_*.tif"
    )
    grey(tmp_path / "p_3.tif", np.eye(8))
    grey(tmp_path / "p_5.tif", np.eye(8))
    assert "slice 4 is missing between 1 and 5" in refusal(read_slices, tmp_path / "p_*.tif")
    assert "no such slices" in refusal(read_slices, tmp_path / "r_*.tif")


def test_a_volume_under_the_name_of_a_slice(tmp_path):
    file = tmp_path / "case_001_week_0_slice_0.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((8, 8, 8), np.int16), np.eye(4)), file)
    assert "expected a slice of two axes" in refusal(read_slices, file)


def test_the_check_names_the_first_of_a_data_set(pair, tmp_path):
    palette(pair / "train/image/cmr1.png")
    grey(pair / "val/image/cmr2.png", np.arange(64).reshape(8, 8))
    grey(pair / "val/mask/cmr2_mask.png", np.eye(8))
    content = prepare_datalist(str(tmp_path / "list.json"), str(pair), FOUR)
    from scripts.check.dataset import check_dataset

    found = check_dataset(content, FOUR, tmp_path / "out", 1, channels=1)
    assert [line.split(": ")[0].rsplit("/", 1)[1] for line in found.errors] == ["cmr1.png"]
    palette(pair / "val/image/cmr2.png")
    assert len(check_dataset(content, FOUR, tmp_path / "out", 1, channels=1).errors) == 2, (
        "a changed slice was not read again"
    )


def test_a_folder_of_many_stacks_is_listed_once(tmp_path, monkeypatch):
    for number in range(6):
        grey(tmp_path / "data" / f"a{number}_slice_0.png", np.arange(64).reshape(8, 8) + number)
        grey(tmp_path / "data" / f"a{number}_slice_1.png", np.arange(64).reshape(8, 8) * 2 + number)
    images = [f"data/a{number}_slice_*.png" for number in range(6)]
    (tmp_path / "list.json").write_text(json.dumps({"test": images, "dataset_dir": str(tmp_path)}))
    listed, listdir = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(str(path)) or listdir(path))
    assert len(read_datalist(tmp_path / "list.json")["test"]) == 6
    assert listed == [str(tmp_path / "data")]
    listed.clear()
    found, read = collect_facts([str(tmp_path / image) for image in images], None, 1, fresh=False)
    assert read == 6 and not any("error" in facts for facts in found.values())
    assert listed == [str(tmp_path / "data")]


def test_a_slice_that_is_added_or_removed_is_seen_at_once(tmp_path):
    path = tmp_path / "a_slice_*.png"
    for number in (0, 1, 10):
        grey(tmp_path / f"a_slice_{number}.png", np.eye(8))
        assert [file.name for file in scan_files(path)][-1] == f"a_slice_{number}.png"
    (tmp_path / "a_slice_10.png").unlink()
    grey(tmp_path / "a_slice_0_mask.png", np.eye(8))
    grey(tmp_path / "b_slice_2.png", np.eye(8))
    assert [file.name for file in scan_files(path)] == ["a_slice_0.png", "a_slice_1.png"]
    assert scan_files(tmp_path / "nowhere" / "a_slice_*.png") == []


# writing


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_label_maps_come_back_as_pictures_like_the_image(tmp_path, ending):
    rng = np.random.default_rng(1)
    for number in (3, 4):
        grey(tmp_path / f"p_{number}.{ending}", rng.integers(0, 255, (6, 9)))
    labels = rng.integers(0, 4, (9, 6, 2)).astype(np.uint8)
    name = write_label_pictures(labels, tmp_path / f"p_*.{ending}", tmp_path, "p", 4)
    assert name == f"p_*_seg.{ending}" and Image.open(tmp_path / f"p_4_seg.{ending}").size == (9, 6)
    assert np.array_equal(read_labels(tmp_path / name, FOUR)[0], labels)
    name = write_label_pictures(labels[..., :1] % 2, tmp_path / f"p_3.{ending}", tmp_path, "code", 2)
    assert name == f"code_seg.{ending}" and set(np.unique(Image.open(tmp_path / name))) == {0, 255}
    assert np.array_equal(read_labels(tmp_path / name, TWO)[0], labels[..., :1] % 2)


def test_a_stack_that_is_shorter_now_leaves_no_slice_of_the_longer_one(tmp_path):
    labels = np.ones((9, 6, 3), np.uint8)
    for number in (1, 2, 3):
        grey(tmp_path / f"p_{number}.png", np.zeros((6, 9)))
    name = write_label_pictures(labels, tmp_path / "p_*.png", tmp_path, "p", 4)
    (tmp_path / "p_3.png").unlink()
    write_label_pictures(labels[..., :2], tmp_path / "p_*.png", tmp_path, "p", 4)
    assert [file.name for file in scan_files(tmp_path / name)] == ["p_1_seg.png", "p_2_seg.png"]


def test_pictures_of_two_kinds_are_refused_by_the_check(tmp_path):
    """Whatever --in_channels is, a training could not use some of them."""
    rng = np.random.default_rng(0)
    for number in range(4):
        colours = (3,) * (number > 0)
        grey(tmp_path / f"image/p{number}.png", rng.integers(0, 255, (16, 16, *colours)))
        grey(tmp_path / f"mask/p{number}_mask.png", 255 * (rng.random((16, 16)) > 0.5))
    found, _ = check_listed(str(tmp_path), None, TWO, str(tmp_path / "out"), 1)
    (line,) = found.errors
    assert "p0.png: found 1 channel(s), expected 3" in line
