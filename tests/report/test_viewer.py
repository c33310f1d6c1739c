"""The page of a case: what is in it, what its policy allows, and in a browser what is seen and on which side."""

import base64
import gzip
import hashlib
import io
import json
import logging
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from browser import BROWSER, observe
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from scripts.core.errors import UserError
from scripts.core.palette import colour
from scripts.report import commands, viewer
from scripts.series.reader import read_series
from scripts.series.writer import write_series

NAMES = ["background", "body", "femur", "bladder"]
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"
STAND_IN = "globalThis.niivue = { drawn: 'nothing' };\r\n"
AFFINE = np.array([[2.0, 0, 0, -20], [0, 2, 0, -30], [0, 0, 3, -40], [0, 0, 0, 1]])
TILTED = nib.affines.from_matvec(
    np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]) @ np.diag([1.5, 1.25, 2]), [1, 2, 3]
)
INSTALLED = [folder / viewer.PLACE for folder in (Path(__file__).parents[1], Path(__file__).parents[2])]
NIIVUE = next((file for file in INSTALLED if file.is_file()), None)
WITH_NIIVUE = pytest.mark.skipif(
    BROWSER is None or NIIVUE is None, reason="no Chromium, or no NiiVue in node_modules of the project or of tests"
)
THREE_D = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--window-size=1700,900")


def case() -> tuple[np.ndarray, np.ndarray]:
    """A body with a femur at the patient's right and a bladder at the front, on the left: index 0 is left and back."""
    x, y, z = np.mgrid[:24, :20, :16]
    labels = np.ones((24, 20, 16), np.uint8)
    labels[16:22, 6:12, 4:12] = 2
    labels[4:9, 12:18, 4:12] = 3
    return (40 * x + y + z - 100).astype(np.int16), labels


def niivue(text: str = STAND_IN) -> viewer.NiiVue:
    return viewer.NiiVue(text.replace("\r\n", "\n"), "0")


def page(labels=None, affine=AFFINE, names=NAMES, title="case", volume=None, script=None) -> str:
    image, made = case()
    volume, labels = image if volume is None else volume, made if labels is None else labels
    return viewer.page(volume, labels, affine, names, title, script or niivue(), b"PNG")


class Parts(HTMLParser):
    """The scripts and styles of a page as a browser would take them, its tags, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.texts, self.inside = [], {}, ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        kind = dict(attrs).get("type", "code") if tag == "script" else tag
        self.texts.setdefault(kind, []).append("")
        self.inside = kind

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside:
            self.texts[self.inside][-1] += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def data(self) -> dict:
        return json.loads(self.texts["application/json"][0])


def volume_of(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_the_policy_allows_the_scripts_and_the_style_of_the_page_and_nothing_else():
    text = page()
    parts = Parts(text)
    scripts, styles = parts.texts["code"], parts.texts["style"]
    assert len(scripts) == 2 and STAND_IN.replace("\r\n", "\n") in scripts and len(styles) == 1
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in [*scripts, *styles]]
    (policy,) = [meta["content"] for meta in parts.all("meta") if "http-equiv" in meta]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": rules["script-src"],
        "style-src": f"'sha256-{hashes[2]}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert sorted(rules["script-src"].split()) == sorted(f"'sha256-{one}'" for one in hashes[:2])
    for _, attributes in parts.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert all(attributes.get(name, "data:").startswith("data:") for name in ("src", "href"))
    assert "Research use only" in text and "Redistribution and use in source and binary forms" in text


def test_a_hostile_name_is_only_text():
    parts = Parts(page(names=["background", HOSTILE, "femur", "bladder"], title=HOSTILE))
    assert [image["src"] for image in parts.all("img")] == ["data:image/png;base64,UE5H"]
    assert len(parts.all("script")) == 3
    assert parts.texts["title"] == [HOSTILE] and parts.texts["h1"][0].strip() == HOSTILE
    assert HOSTILE in (text.strip() for text in parts.texts["span"])
    assert parts.data["classes"][0]["name"] == HOSTILE


@pytest.mark.parametrize("affine", [AFFINE, TILTED, AFFINE @ np.diag([-1, 1, 1, 1])], ids=["straight", "tilted", "LAS"])
def test_image_and_labels_are_in_the_page_where_they_belong(affine):
    data = Parts(page(affine=affine)).data
    image, labels = volume_of(data["image"]), volume_of(data["labels"])
    for volume in (image, labels):
        assert np.allclose(volume.affine, affine, atol=1e-4) and volume.get_data_dtype() == np.uint8
    values, truth = case()
    assert np.array_equal(np.asarray(labels.dataobj), truth)
    low, high = values.min(), np.percentile(values, 99.9)
    shown = np.asarray(image.dataobj) * (high - low) / viewer.STEPS + low
    assert np.abs(shown - values.clip(low, high)).max() <= 0.51 * (high - low) / viewer.STEPS
    window = np.percentile(values, (1, 99.5))
    found = [image.header[key] * (high - low) / viewer.STEPS + low for key in ("cal_min", "cal_max")]
    assert np.allclose(found, window, atol=0.01)
    cross = nib.affines.apply_affine(np.linalg.inv(affine), data["cross"])
    assert truth[tuple(np.rint(cross).astype(int))] in (1, 2, 3)


def test_classes_have_the_colours_of_the_report_and_large_ones_are_off_at_first():
    parts = Parts(page())
    assert [(item["name"], item["colour"]) for item in parts.data["classes"]] == [
        (name, colour(value)) for value, name in list(enumerate(NAMES))[1:]
    ]
    boxes = [box for box in parts.all("input") if box["type"] == "checkbox"]
    assert [("checked" in box, box["value"]) for box in boxes] == [(False, "1"), (True, "2"), (True, "3")]
    assert all(f".c{value} {{ background: {colour(value)}; }}" in parts.texts["style"][0] for value in (1, 2, 3))


@pytest.mark.parametrize("kind", ["flat", "no numbers", "some no numbers"])
def test_odd_images_have_a_page(kind):
    volume = np.full((24, 20, 16), 7.0)
    if kind != "flat":
        volume[0 if kind.startswith("some") else slice(None)] = np.nan
    image = volume_of(Parts(page(volume=volume)).data["image"])
    assert np.array_equal(np.asarray(image.dataobj), np.zeros(volume.shape))


def test_a_large_volume_is_thinned_where_it_has_most_voxels(monkeypatch):
    monkeypatch.setattr(viewer, "LARGEST_VOLUME", 2000)  # of 24 x 20 x 16
    text = page(affine=TILTED)
    labels = volume_of(Parts(text).data["labels"])
    _, truth = case()
    assert np.array_equal(np.asarray(labels.dataobj), truth[::2, ::2]) and "here is one of 2 x 2 x 1" in text
    for index in ((0, 0, 0), (5, 3, 7)):
        here = nib.affines.apply_affine(TILTED, np.array(index) * [2, 2, 1])
        assert np.allclose(nib.affines.apply_affine(labels.affine, index), here, atol=1e-4)
    assert viewer.thinning((24, 20, 1)) == [1, 1, 1] and viewer.thinning((10, 10, 200)) == [1, 1, 10]
    monkeypatch.undo()
    assert viewer.thinning((256, 256, 256)) == [1, 1, 1] and viewer.thinning((512, 512, 80)) == [2, 1, 1]
    assert "here is one of" not in page()


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "no such file"),
        (b"globalThis.niivue = 1; '</ScRipt>'", "</ScRipt"),
        (b"globalThis.niivue = 1; '<!--'", "<!--"),
        (b"globalThis.niivue = 1; '\0'", "can't be in a page"),
        (b"export const Niivue = 1", "found another file"),
        (b"globalThis.niivue = \xff", "found no text"),
        (b"globalThis.niivue = 1;" + 200 * b" ", "found 222 bytes"),
    ],
)
def test_a_wrong_script_is_refused(content, words, tmp_path, monkeypatch):
    monkeypatch.setattr(viewer, "LARGEST_SCRIPT", 200)
    file = tmp_path / "niivue.umd.js"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match="expected niivue.umd.js of the npm package @niivue/niivue") as error:
        viewer.find(str(file))
    assert words in str(error.value) and str(file) in str(error.value) and "\n" not in str(error.value)


def test_niivue_is_found_in_node_modules_of_the_working_folder(tmp_path, monkeypatch):
    file = tmp_path / viewer.PLACE
    file.parent.mkdir(parents=True)
    file.write_bytes(STAND_IN.encode())
    (file.parents[1] / "package.json").write_text('{"name": "@niivue/niivue", "version": "0.69.0"}')
    monkeypatch.chdir(tmp_path)
    assert viewer.find(None) == viewer.find(True) == viewer.find(str(file))
    assert viewer.find(None) == viewer.NiiVue(STAND_IN.replace("\r\n", "\n"), "0.69.0")
    assert viewer.find(False) is None
    Path("x.js").write_text(STAND_IN)
    assert viewer.find("x.js") == viewer.NiiVue(viewer.find(None).text, "of unknown version")


def test_where_niivue_is_not_installed_only_who_asked_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(viewer, "PLACE", Path("nowhere.js"))
    with caplog.at_level(logging.INFO):
        assert viewer.find(None) is None and caplog.messages == []
        assert viewer.find(True) is None
    (line,) = caplog.messages
    assert "NiiVue is not installed" in line and "npm install" in line


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    """Arguments of the command."""
    image, labels = case()
    nib.save(nib.Nifti1Image(image, AFFINE), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "b.nii.gz")
    (tmp_path / "niivue.umd.js").write_text(STAND_IN)
    named = {"image": "a.nii.gz", "labels": "b.nii.gz", "output": "c_view.html", "niivue": "niivue.umd.js"}
    return {key: str(tmp_path / name) for key, name in named.items()} | {"class_names": NAMES}


def test_the_command_writes_a_page_of_files(files, tmp_path, capsys):
    commands.view(**files)
    parts = Parts((tmp_path / "c_view.html").read_text(encoding="utf-8"))
    assert parts.texts["title"] == ["c"] and str(tmp_path / "c_view.html") in capsys.readouterr().out
    assert np.array_equal(np.asarray(volume_of(parts.data["labels"]).dataobj), case()[1])
    picture = base64.b64decode(parts.all("img")[0]["src"].removeprefix("data:image/png;base64,"))
    assert imread(io.BytesIO(picture)).shape[0] > 300
    assert {path.name for path in tmp_path.iterdir()} == {"a.nii.gz", "b.nii.gz", "c_view.html", "niivue.umd.js"}


def test_the_command_takes_the_folder_of_a_series(files, tmp_path):
    pytest.importorskip("pydicom", reason="the extra dicom is not installed")
    image, labels = case()
    write_series(image + 100, AFFINE, tmp_path / "series")
    volume, affine = read_series(tmp_path / "series")
    assert not np.allclose(affine, AFFINE)  # the rows of a series go the other way
    own = nib.as_closest_canonical(nib.Nifti1Image(labels, AFFINE))
    turn = nib.orientations.ornt_transform(*(nib.io_orientation(grid) for grid in (AFFINE, affine)))
    nib.save(own.as_reoriented(turn), files["labels"])
    commands.view(**files | {"image": str(tmp_path / "series")})
    data = Parts((tmp_path / "c_view.html").read_text(encoding="utf-8")).data
    found = nib.as_closest_canonical(volume_of(data["image"]))
    assert np.allclose(found.affine, AFFINE, atol=1e-3)
    assert np.corrcoef(np.asarray(found.dataobj).ravel(), image.ravel())[0, 1] > 0.999


def test_the_command_refuses_what_has_no_page(files, tmp_path, monkeypatch):
    nib.save(nib.Nifti1Image(case()[1], TILTED), tmp_path / "tilted.nii.gz")
    nib.save(nib.Nifti1Image(case()[1][..., :1], AFFINE), tmp_path / "flat.nii.gz")
    for changed, words in (
        ({"labels": str(tmp_path / "tilted.nii.gz")}, "resample it to that grid"),
        ({"image": str(tmp_path / "flat.nii.gz")}, "found slices, which have no page"),
        ({"output": files["image"]}, "expected the name of a page"),
        ({"class_names": NAMES[:2]}, "found label 3"),
    ):
        with pytest.raises(UserError, match=words):
            commands.view(**files | changed)
    monkeypatch.setattr(viewer, "PLACE", Path("nowhere.js"))
    with pytest.raises(UserError, match="NiiVue is not installed here"):
        commands.view(**files | {"niivue": None})
    assert not (tmp_path / "c_view.html").exists()


FRAMES = """<!doctype html><title>frames</title><style>iframe { border: 0; width: 800px; height: 420px }</style>
<script>
const until = async (known) => { while (!known()) await new Promise((done) => setTimeout(done, 50)); };
addEventListener("load", async () => {
  const seen = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, of = (id) => page.getElementById(id), start = "This browser runs no scripts";
    await until(() => of("place").textContent || !of("reason").textContent.startsWith(start) || frame.id == "changed");
    const live = page.body.classList.contains("live"), image = page.querySelector("img"), pictures = [];
    const keep = () => pictures.push(of("canvas").toDataURL()); // there only right after the page has drawn
    if (live) { of("opacity").dispatchEvent(new Event("input")); keep(); }
    for (const value of frame.dataset.click.split(",").filter(Boolean)) {
      page.querySelector(`[value="${value}"], [id="${value}"]`).click();
      keep();
    }
    seen[frame.id] = {
      live, pictures, reason: of("reason").textContent, place: of("place").textContent,
      image: [image.naturalWidth, image.offsetWidth],
      legend: of("classes").offsetWidth > 0,
    };
  }
  fetch(`http://127.0.0.1:${location.hash.slice(1)}`, { method: "POST", mode: "no-cors", body: JSON.stringify(seen) });
});
</script>
"""


def look(folder: Path, pages: dict[str, tuple], *flags: str) -> tuple[dict, list[str]]:
    """What is seen of pages: by name the text, the part of the address behind #, and what is clicked one by one."""
    frames = ""
    for name, (text, address, clicks) in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
        frames += f'<iframe id="{name}" src="{name}.html#{address}" data-click="{clicks}"></iframe>'
    (folder / "frames.html").write_text(FRAMES + frames, encoding="utf-8")
    return observe(folder, folder / "frames.html", *flags)


def places(picture: str, value: int) -> np.ndarray:
    """Where a class is seen in a picture of the planes: columns and rows, as shares of its size."""
    pixels = imread(io.BytesIO(base64.b64decode(picture.removeprefix("data:image/png;base64,"))))[..., :3]
    rows, columns = np.nonzero(np.abs(pixels - to_rgb(colour(value))).max(axis=-1) < 0.02)
    return np.stack([columns / pixels.shape[1], rows / pixels.shape[0]], axis=1)


@WITH_NIIVUE
def test_in_a_browser_everything_is_on_its_side(tmp_path):
    """Of two pages one is of a scan that is stored from right to left and from front to back, the other is mirrored."""
    image, labels = case()
    script, names = viewer.find(str(NIIVUE)), ["background", HOSTILE, *NAMES[2:]]
    turned = AFFINE @ np.array([[-1, 0, 0, 23], [0, -1, 0, 19], [0, 0, 1, 0], [0, 0, 0, 1]])
    text = page(labels[::-1, ::-1], turned, names, HOSTILE, image[::-1, ::-1], script)
    mirrored = page(labels[::-1], script=script)
    address = "view=axial&opacity=1"
    pages = {"sound": (text, address, "2,all"), "mirrored": (mirrored, f"{address}&off=1,3", "1,hide")}
    seen, console = look(tmp_path, pages, *THREE_D)
    assert console == [] and all(one["live"] and one["legend"] for one in seen.values())
    first, without_femur, planes = seen["sound"]["pictures"]
    femur, bladder = places(first, 2), places(first, 3)
    assert len(femur) > 500 and len(bladder) > 500 and len(places(first, 1)) == 0
    assert femur[:, 0].max() < 0.5 < bladder[:, 0].min()  # the patient's right is on the left
    assert bladder[:, 1].max() < femur[:, 1].min() + 0.05  # the front is above
    assert len(places(without_femur, 2)) == 0 and len(places(without_femur, 3)) > 500
    below = places(planes, 3)[:, 1] > 0.5
    assert np.count_nonzero(below) > 100 and np.count_nonzero(~below) > 100  # coronal above, axial below
    sides = zip(("RL", "AP", "SI"), Parts(text).data["cross"])
    assert seen["sound"]["place"] == ", ".join(f"{ends[value < 0]} {abs(value):.1f}" for ends, value in sides) + " mm"
    by_address, with_body, nothing = seen["mirrored"]["pictures"]
    assert places(by_address, 2)[:, 0].min() > 0.5  # a mirrored map would be seen
    assert len(places(by_address, 1)) == len(places(by_address, 3)) == 0
    assert len(places(with_body, 1)) > 500 and not any(len(places(nothing, value)) for value in (1, 2, 3))


@WITH_NIIVUE
def test_without_webgl_the_pictures_are_shown(tmp_path, files):
    commands.view(**files | {"niivue": str(NIIVUE)})
    text = Path(files["output"]).read_text(encoding="utf-8")
    flags = ("--disable-gpu", "--disable-3d-apis", "--window-size=1700,900")
    seen, console = look(tmp_path, {"flat": (text, "", "")}, *flags)
    flat = seen["flat"]
    assert console == [] and not flat["live"] and "has no WebGL2" in flat["reason"]
    assert flat["image"][0] > 300 and flat["image"][1] > 300 and not flat["legend"]


@WITH_NIIVUE
def test_a_page_that_was_changed_does_not_run_and_the_console_would_tell(tmp_path):
    text = page(script=viewer.find(str(NIIVUE))).replace('"use strict";\n//', '"use strict";alert(1)\n//')
    seen, console = look(tmp_path, {"changed": (text, "", "")}, *THREE_D)
    assert not seen["changed"]["live"] and "runs no scripts" in seen["changed"]["reason"]
    assert len(console) == 1 and "Content Security Policy" in console[0]
