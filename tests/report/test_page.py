"""Pages: what they say and in which order, names of files as harmless text, no other file needed, and readable."""

import base64
import re
import xml.etree.ElementTree as ElementTree
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import pytest
from browser import BROWSER, browse
from conftest import blank_charts
from samples import CLASSES, HOSTILE, comparison, full_size, odd, odd_records, records, report

from scripts.report import tables
from scripts.report.blocks import Legend
from scripts.report.files import metrics
from scripts.report.page import comparison_page, report_page, to_html, to_markdown
from scripts.report.report_sections import first_box
from scripts.report.schema import Report
from scripts.report.strips import strips

FLAT = ("--disable-gpu", "--window-size=1400,900")
VOID = {"meta", "link", "img", "br", "hr", "input"}
USE = "Research use only: not for diagnosis or treatment."
ORDER = ["What was evaluated", "Results by class", "Results by patient", "Warnings", "Every case"]
ORDER += ["Truth against predicted volume", "Volumes over the weeks", "Pictures", "Training"]
ORDER += ["How odd cases are counted", "Limits"]


class Outline(HTMLParser):
    """Tags, attributes and text of a page; fails where a tag is closed that was not open."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.seen, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(" ".join(data.split()))

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.seen if name == tag]

    @property
    def text(self) -> str:
        return " ".join(filter(None, self.words))


@cache
def pictures(truth: bool = True) -> dict:
    image, labels, prediction, affine = full_size()
    return strips(image, labels if truth else None, prediction, affine, CLASSES)


def page(data: Report | dict, charts: bool = False):
    """The charts of most are blank: those of `pages` are looked at."""
    with nullcontext() if charts else blank_charts():
        return report_page(data) if isinstance(data, Report) else comparison_page(data)


def html(data: Report | dict, charts: bool = False) -> str:
    return to_html(page(data, charts))


def markdown(data: Report | dict) -> str:
    return to_markdown(page(data))


def sample(truth: bool = True, patients: int = 5, scans: int = 4) -> Report:
    """A report with odd cases, pictures, warnings, files left out and a history."""
    cases = odd_records(patients, scans, truth)
    for record in cases:
        record.pictures = pictures(truth)
    made = report(cases, truth, history=20)
    made.problems = ["Case_099_Week0.nii.gz: found 2 axes, expected 3; convert it anew"]
    return made


@cache
def pages() -> dict[str, str]:
    runs = [odd_records(10, 4), records(10, 4, seed=2), records(10, 4, seed=3)]
    both = {f"report-{truth}": html(sample(truth), charts=True) for truth in (True, False)}
    few = html(replace(report(records(1, 1, weeks=False)), rules=[], limits=[]), charts=True)
    compared = {f"comparison-{n}": html(comparison(*runs[:n]), charts=True) for n in (2, 3)}
    return both | compared | {"few": few}


def shown(value: float, measure: str) -> str:
    decimals = 1 if measure.endswith("_ml") else 2 if measure.endswith("_mm") else 3
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def charts_of(text: str, kind: str = "svg\\+xml") -> list[str]:
    return re.findall(f'src="data:image/{kind};base64,([A-Za-z0-9+/=]+)"', text)


KINDS = ["report-True", "report-False", "comparison-2", "comparison-3", "few"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_whole_in_itself(kind):
    text = pages()[kind]
    outline = Outline(text)
    plain = re.sub(r"base64,[^\"]*", "", text)
    assert "<script" not in plain and not re.search(r"https?:|(?<![a-z])//[a-z]|@import|url\(", plain)
    assert not any(name.startswith("on") for _, attributes in outline.seen for name in attributes)
    for _, attributes in outline.seen:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:", "#"))
    policy = [meta["content"] for meta in outline.all("meta") if "http-equiv" in meta]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert outline.all("html") == [{"lang": "en"}] and outline.text.count(USE) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_can_be_read_aloud(kind):
    outline = Outline(pages()[kind])
    assert all(image["alt"].strip() for image in outline.all("img"))
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert all(head.get("scope") in ("col", "row", "rowgroup") for head in outline.all("th"))
    anchors = {a["href"][1:] for a in outline.all("a")}
    assert anchors and anchors <= {section["id"] for section in outline.all("section")}


@pytest.mark.parametrize("kind", KINDS)
def test_charts_in_a_page_are_xml(kind):
    charts = [base64.b64decode(chart) for chart in charts_of(pages()[kind])]
    expected = {"report-True": 16, "report-False": 5, "comparison-2": 1, "comparison-3": 2, "few": 10}
    assert len(charts) == expected[kind]
    assert all(ElementTree.fromstring(chart).tag.endswith("svg") for chart in charts)


def test_a_report_says_everything_in_order():
    text = Outline(pages()["report-True"]).text
    headings = re.findall(r"<h2>(.*?)</h2>", pages()["report-True"])
    assert headings == ["1 file left out", "Look at this first", *ORDER]
    for words in ("Mean Dice over the classes", "Scans 20 of 6 patients", "Missed structures 2 of 98 in the truth"):
        assert words in text
    assert "bladder in Case_004_Week3 : missed, Dice 0.000. See axial slice 47 (third axis, counted from 0)." in text
    assert "expected 3; convert it anew" in text and "1 ( " not in text


@pytest.mark.parametrize("render", [html, markdown])
def test_every_number_is_there(render):
    data = sample()
    text = render(data)
    text = Outline(text).text if render is html else text
    for name, found in data.summary.classes.items():
        assert name in text
        for measure, stats in found.measures.items():
            for key in ("mean", "sd", "median"):
                assert shown(getattr(stats, key), measure) in text
            assert " to ".join(shown(limit, measure) for limit in stats.ci) in text
        dice = found.measures["Dice"]
        assert f"{dice.ci_naive[0]:.3f} to {dice.ci_naive[1]:.3f}" in text
    cells = re.sub(r"[| ]+", " ", text)
    for patient, found in data.summary.patients.items():
        counts = f"{found.scans} {found.missed} {found.absent} {found.foreground:.3f}"
        assert patient == HOSTILE or f"{patient} {counts}" in cells
        assert all(f"{own['mean']:.3f}" in text for own in found.classes.values() if own["n"])
    assert sum(found.missed for found in data.summary.patients.values()) == 2 and "8.5 ml" in text
    assert "nan" not in text.lower()
    assert all(value in text for _, value in data.about)
    assert all(sentence in text for sentence in data.rules + data.limits + data.problems)


def test_the_naive_interval_is_shown_only_where_it_differs():
    data = report(records(5, 1))
    for found in data.summary.classes.values():
        for stats in found.measures.values():
            stats.ci_naive = None
    data.summary.foreground.ci_naive = data.summary.foreground.ci
    assert "independent" not in markdown(data)
    data.summary.foreground.ci_naive = [0.1, 0.2]
    assert "independent" in markdown(data) and "0.100 to 0.200" in markdown(data)


def test_no_score_without_truth():
    for text in (pages()["report-False"], markdown(sample(truth=False))):
        assert not re.search("dice|hausdorff|missed|truth", re.sub(r"base64,[^\"]*", "", text).lower())
        assert "Volumes by class" in text and "touches the border of the field of view" in text
        assert text.index("has the most warnings") < text.index("touches the border") < text.index("Volumes by case")
    data = sample(truth=False)
    sizes = {f"{record.measures[name]['predicted_ml']:.1f}" for record in data.cases for name in CLASSES[1:]}
    assert all(f">{size}<" in pages()["report-False"] for size in sizes)


def test_pictures_are_the_first_nine_and_the_best_and_worst():
    text = pages()["report-True"]
    captions = re.findall(r"<figcaption>([^<]*?) <span>· (.*?)</span>", text)
    assert len(captions) == 9 + 2 * 5 and all("counted from 0" in place for _, place in captions)
    assert len(charts_of(text, "jpeg")) == 4 * (19 + 1)  # and the worst of all, at the top
    titles = [caption for caption, _ in captions]
    assert "Worst bladder: Case_004_Week3, missed" in titles and "Worst prostate: Case_005_Week3, missed" in titles
    data = sample()
    best = max(data.cases, key=lambda record: record.measures["body"]["Dice"])
    assert f"Best body: {best.case}, Dice {best.measures['body']['Dice']:.3f}" in titles
    shown = [caption for caption, _ in re.findall(r"<figcaption>(.*?) <span>· (.*?)</span>", pages()["report-False"])]
    assert len(shown) == 9  # the two further cases with warnings are among them


def test_further_cases_with_warnings_are_shown_without_truth():
    cases = records(40, 1, truth=False)
    for record in cases:
        record.pictures, record.warnings = pictures(False), ["body: 2 pieces"]
    text = html(report(cases, truth=False))
    assert text.count("<figcaption>Case_") == 9 + 20 and text.count(": body: 2 pieces <span>") == 20
    assert "11 more cases with warnings are in the table above." in text


def test_a_hostile_name_is_only_text():
    for text in pages().values():
        assert "<b>" not in text
    assert HOSTILE in Outline(pages()["report-True"]).text and HOSTILE in Outline(pages()["comparison-2"]).text
    for text in (
        markdown(sample()),
        markdown(sample(truth=False)),
        markdown(comparison(odd_records(10, 4), records(10, 4, seed=2))),
    ):
        assert "<b>" not in text and r"&lt;b&gt;x&lt;/b&gt;&amp;\"".replace("\\", "") + r"\|\`\*\$y\$" in text


def test_many_files_left_out_do_not_hide_the_rest():
    data = replace(report(records(2, 1)), problems=[f"file_{n}.nii.gz: unreadable; remove it" for n in range(30)])
    text = html(data)
    top = text[: text.index("Look at this first")]
    assert "30 files left out" in top and top.count("unreadable") == 4 and text.count("unreadable") == 34


def markdown_tables(text: str) -> list[list[str]]:
    return [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]


@pytest.mark.parametrize("kind", ["truth", "no truth", "comparison"])
def test_markdown_is_aligned(kind):
    text = {
        "truth": lambda: markdown(sample()),
        "no truth": lambda: markdown(sample(truth=False)),
        "comparison": lambda: markdown(comparison(odd_records(10, 4), records(10, 4, seed=2))),
    }[kind]()
    tables = markdown_tables(text)
    assert USE in text and len(tables) == {"truth": 4, "no truth": 3, "comparison": 4}[kind]
    for lines in tables:
        assert len({len(line) for line in lines}) == 1
        bars = {tuple(m.start() for m in re.finditer(r"(?<!\\)\|", line)) for line in lines}
        assert len(bars) == 1 and re.fullmatch(r"\|( -+:? \|)+", lines[1])
    assert "\n\n\n" not in text


def test_a_comparison_says_what_changed():
    runs = odd_records(10, 4), records(10, 4, seed=2)
    data = comparison(*runs)
    data["measures"]["Dice"]["body"]["differences"][0]["ci"] = [0.01, 0.02]
    data["measures"]["Dice"]["rectum"]["differences"][0]["ci"] = [-0.02, -0.01]
    data["measures"]["hd95_mm"]["bones"]["differences"][0]["ci"] = [0.5, 1.5]
    data["measures"]["hd95_mm"]["body"]["differences"][0]["ci"] = [-1.5, -0.5]
    data["measures"]["Dice"]["bones"]["differences"][0]["ci"] = None
    for render in (html, markdown):
        text = render(data)
        text = Outline(text).text if render is html else re.sub(r"[| ]+", " ", text)
        for words in (
            "0.010 to 0.020 excludes 0: better",
            "−0.020 to −0.010 excludes 0: worse",
            "0.50 to 1.50 excludes 0: worse",
            "−1.50 to −0.50 excludes 0: better",
        ):
            assert words in text
        assert f"{len(data['worse']) - 30} more results got worse" in text
        assert all(f"{entry['difference']:.3f}".replace("-", "−") in text for entry in data["worse"][:30])
        assert (
            re.search(r"bladder 1 0", text)
            and "A/metrics.json" in text
            and "surface Dice at 2 mm" in text.replace("Surface", "surface")
        )
    headings = re.findall(r"<h2>(.*?)</h2>", html(data))
    shown = [
        "Dice",
        "Difference of every case",
        "Cases that got worse",
        "Missed structures and false alarms",
        "Other measures",
    ]
    assert headings == ["A, the baseline", "B", *shown, "How to read this"]


@pytest.mark.parametrize("truth", [True, False])
def test_the_colours_of_doubt_are_explained_where_they_are_seen_first(truth):
    """Also where no Dice is expected, as of weights that have seen few validation patients."""
    data = report(odd_records(truth=truth), truth=truth)
    strip = {"tiles": {"image": "", "doubt": ""}, "plane": "axial", "slice": 3, "axis": 2}
    for record in data.cases:
        record.pictures = {"": strip, **dict.fromkeys(CLASSES[1:], strip)}
    for looks in ("shifts", ""):
        blocks = first_box(replace(data, looks=looks)).blocks
        legends = [block.title for block in blocks if isinstance(block, Legend)]
        assert legends == ["Errors"] * truth + ["Chance that the label is wrong"] * bool(looks)


def test_a_small_volume_is_not_shown_as_none():
    """Of few small voxels, or of a picture whose pixels are taken for 1 mm."""
    cases = records(2, 1)
    cases[0].measures["rectum"] |= {"status": "missed", "Dice": 0.0, "truth_ml": 0.031, "predicted_ml": 0.0}
    cases[1].measures["rectum"] |= {"truth_ml": 0.02, "predicted_ml": 0.04}
    data = report(cases, place=False)
    assert data.summary.worst.note == "The predicted volume is 0.0 ml, the true volume 0.03 ml."
    text = re.sub(r"[| ]+", " ", markdown(data))
    assert "rectum 2 1 0.03 ± 0.01 " in text  # scans and how many of them were missed
    predicted = records(2, 1, truth=False)
    predicted[0].measures["rectum"]["predicted_ml"] = 0.004
    assert "0.004" in markdown(report(predicted, truth=False))


@pytest.mark.parametrize("render", [html, markdown])
def test_the_worst_of_results_without_a_missed_one(render):
    data = report(records(3, 2))
    worst = data.summary.worst
    text = Outline(render(data)).text if render is html else render(data)
    assert re.search(f"{worst.class_name} in {worst.case} ?: Dice {worst.value:.3f}. See axial slice 47 ", text)
    worst.plane = worst.slice = worst.axis = None
    assert f"Dice {worst.value:.3f}. The prediction" in markdown(data)
    data.summary.worst = None
    assert "Look at this first" not in markdown(data)


def test_a_class_that_no_case_has():
    cases = records(2, 1)
    for record in cases:
        odd(record, "rectum", "absent")
    for text in (html(report(cases), charts=True), markdown(report(cases))):
        assert "–" in text and "nan" not in re.sub(r"base64,[^\"]*", "", text)


def test_a_page_of_1200_scans_stays_small():
    """300 patients with 4 scans each, with as many pictures as a page can have, and the curves of a training."""
    cases = odd_records(300, 4)
    for record in cases:
        record.pictures = pictures()
    text = html(report(cases, history=60), charts=True)
    assert len(text.encode()) < 6_000_000
    assert "bladder: 24 of 300 patients" in text and "The volumes of all patients are in metrics.csv." in text
    assert "The lowest scans have their names." in text


def test_a_table_on_a_page_ends_somewhere(monkeypatch):
    """A browser can't show a hundred thousand rows; the files beside the page have all of them."""
    monkeypatch.setattr(tables, "MOST_ROWS", 7)
    for truth, caption in ((False, "Predicted volumes of every case"), (True, "Dice of every patient")):
        made = report(records(12, 1, truth=truth), truth=truth)
        assert caption in (text := html(made))
        for shown in (text, markdown(made)):
            assert "the first 7 of 12, the others are in metrics.json" in shown
        assert len(metrics(made)["metric_per_case"]) == 12


def test_curves_that_begin_before_the_first_epoch():
    """A fine-tuned model has a score at epoch 0, and no loss there."""
    made = report(odd_records(12, 1), history=4)
    made.history.insert(0, made.history[0] | {"epoch": "0", "train_loss": ""})
    first, last = (made.history[place]["train_loss"] for place in (1, -1))
    assert f"Training loss from {first} to {last} in 4 epochs" in html(made, charts=True)


def test_a_small_page_shows_the_weeks_of_every_patient():
    text = pages()["report-True"]
    assert "in metrics.csv" not in text and "Every panel is a patient with several scans.</p>" in text


def test_text_can_be_told_from_what_is_behind_it():
    """WCAG AA: 4.5 to 1 for every pair of text and background that the style sheet uses."""
    style = pages()["few"]
    hue = dict(re.findall(r"--(\w+): (#\w{6});", style)) | {"white": "#ffffff", "pink": "#fdf5f2"}
    assert "background: #fdf5f2" in style
    pairs = [("ink", "white"), ("soft", "white"), ("soft", "wash"), ("accent", "white"), ("warn", "pink")]
    for front, back in pairs:
        light, dark = sorted((luminance(hue[front]), luminance(hue[back])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def luminance(hue: str) -> float:
    parts = [int(hue[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))


MEASURE = """<!doctype html><title>frames</title><style>iframe {{ border: 0; height: 800px }}</style>{frames}
<script>onload = () => {{
  const found = [...document.querySelectorAll("iframe")].map(frame => {{
    const page = frame.contentDocument, images = [...page.images];
    return [frame.clientWidth, page.documentElement.scrollWidth, page.body.scrollWidth,
      images.filter(image => image.naturalWidth > 0).length, images.length,
      Math.round(page.querySelector(".tiles, .runs")?.getBoundingClientRect().top ?? 0)].join(" ");
  }});
  document.body.textContent = "found:" + found.join(";") + ":";
}}</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_in_a_browser_pages_are_silent_and_never_wider_than_the_window(tmp_path):
    """The policy forbids every request and its console names every attempt, so silence means that none was made."""
    frames = []
    for name in ("report-True", "report-False", "comparison-3"):
        (tmp_path / f"{name}.html").write_text(pages()[name], encoding="utf-8")
        frames += [f'<iframe src="{name}.html" style="width: {width}px"></iframe>' for width in (400, 1280)]
    (tmp_path / "frames.html").write_text(MEASURE.format(frames="".join(frames)), encoding="utf-8")
    dom, console = browse(tmp_path, tmp_path / "frames.html", *FLAT)
    assert console == []
    found = [list(map(int, line.split())) for line in re.search("found:(.*?):", dom).group(1).split(";")]
    assert [line[0] for line in found] == [400, 1280] * 3
    for window, document, body, loaded, images, top in found:
        assert document <= window and body <= window
        assert loaded == images > 0
        assert 0 < top < 520 or window == 400  # at 1280 x 800 what to look at first is on the first screen


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_browsers_console_would_tell(tmp_path):
    text = pages()["few"].replace("<main>", '<main><img src="http://localhost:9/a.png" alt="a"><script>1</script>')
    (tmp_path / "broken.html").write_text(text, encoding="utf-8")
    _, console = browse(tmp_path, tmp_path / "broken.html", *FLAT)
    assert len(console) == 2 and all("Content Security Policy" in line for line in console)
