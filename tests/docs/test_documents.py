"""What the documents say is what a run or a file says."""

import importlib.util
import json
import re
from statistics import mean, median

import pytest
from conftest import BUNDLE, CONFIGS, ROOT

DOCS = BUNDLE / "docs"
README, CARD = ROOT / "README.md", DOCS / "README.md"


@pytest.fixture(scope="module")
def figures():
    """The script that writes the documents' table, and the demo's metrics that it kept."""
    spec = importlib.util.spec_from_file_location("figures", ROOT / ".ci" / "figures.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script, json.loads((DOCS / "demo_metrics.json").read_text())


def row_of(beginning: str) -> str:
    """The one row of the README's tables that begins so."""
    (row,) = re.findall(rf"^\| {re.escape(beginning)}.*$", README.read_text(), re.MULTILINE)
    return row


def test_the_cards_table_is_the_demos_and_worth_showing(figures):
    script, metrics = figures
    text = CARD.read_text()
    assert f"\n\n{script.table(metrics)}\n\n" in text and "**one run**" in text
    low, high = metrics["foreground"]["ci"]
    assert low < metrics["foreground"]["mean"] < high and metrics["foreground"]["mean"] >= 0.9
    assert len(metrics["classes"]) == 5 and len(metrics["patients"]) == 4 and metrics["foreground"]["n"] == 8
    for name, found in metrics["classes"].items():
        assert found["measures"]["Dice"]["mean"] >= 0.8 and found["missed"] == 0, name


def test_the_demos_mean_is_given_as_seen_on_all_machines(figures):
    script, metrics = figures
    means = json.loads((DOCS / "demo_machines.json").read_text())["mean_dice"]
    assert script.over_machines(means) in row_of("phantoms, patients not seen") and len(means) >= 3
    assert f"the mean Dice was {script.over_machines(means)}" in " ".join(CARD.read_text().split())
    assert script.is_among(metrics["foreground"]["mean"], means)


@pytest.mark.parametrize(("value", "among"), [(0.9144, True), (0.9066, True), (0.9146, False), (0.9064, False)])
def test_a_mean_beyond_those_given_is_noticed(figures, value, among):
    assert figures[0].is_among(value, [0.914, 0.91, 0.907]) is among
    assert figures[0].over_machines([0.914, 0.91, 0.907]) == "0.907 to 0.914 on three machines"


def test_make_figures_renews_table_and_range(figures, tmp_path, monkeypatch, capsys):
    """The same script on a copy of the documents, with another run's figures."""
    script, metrics = figures
    demo, docs, readme = tmp_path / "demo", tmp_path / "docs", tmp_path / "README.md"
    for folder in (demo / "run", demo / "predictions", docs):
        folder.mkdir(parents=True)
    for name in ("demo/run/progress.png", "demo/predictions/a_overlay.png"):
        (tmp_path / name).write_bytes(b"")
    other = json.loads(json.dumps(metrics))
    other["foreground"]["mean"], other["classes"]["rectum"]["measures"]["Dice"]["mean"] = 0.9087, 0.7654
    (demo / "run" / "metrics.json").write_text(json.dumps(other))
    (docs / "README.md").write_text(CARD.read_text())
    readme.write_text(README.read_text())
    machines = docs / "demo_machines.json"
    machines.write_text('{"mean_dice": [0.914, 0.901]}')
    for name, value in {"DEMO": demo, "DOCS": docs, "README": readme, "MACHINES": machines, "TABLES": {}}.items():
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(script, "CARD", docs / "README.md")
    monkeypatch.setattr(script, "photograph", lambda *_: None)
    script.main()
    card = (docs / "README.md").read_text()
    assert "| rectum | 8 | 0 | 0.765 |" in card and f"\n\n{script.table(other)}\n\n" in card
    assert all("0.901 to 0.914 on two machines" in file.read_text() for file in (readme, docs / "README.md"))
    assert "0.909" in capsys.readouterr().out
    other["foreground"]["mean"] = 0.88
    (demo / "run" / "metrics.json").write_text(json.dumps(other))
    with pytest.raises(SystemExit, match="0.880 is beyond"):
        script.main()


def test_the_tables_of_the_recipes_are_those_that_were_measured(figures):
    tables = figures[0].tables()
    assert set(figures[0].TABLES) == set(tables)
    for name, (_, file) in figures[0].TABLES.items():
        assert f"<!-- {name} -->\n\n{tables[name]}\n\n<!-- end -->" in file.read_text(), name
    found = json.loads((DOCS / "recipes_metrics.json").read_text())["rows"]
    assert {row["recipe"] for row in found} >= {file.stem for file in CONFIGS.glob("recipe_*.json")}
    assert all(row["dice"] >= 0.8 for row in found)


def test_the_readme_has_the_hippocampus_as_it_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    folds = json.loads((DOCS / "hippocampus_metrics.json").read_text())["rows"]
    front, back = (mean(fold["dice"][name]["mean"] for fold in folds) for name in ("anterior", "posterior"))
    row = row_of("real MR of the hippocampus")
    assert [fold["part"] for fold in folds] == ["fold0", "fold1", "fold2", "fold3"] and "mean of four folds" in row
    assert f", {round(median(fold['seconds'] for fold in folds) / 60)} minutes each on" in row
    assert f"| {front:.3f} / {back:.3f} ([model card](bundle/docs/hippocampus.md)) |" in row
    assert "| 0.898 / 0.881 (nnU-Net, five folds" in row
    assert re.search(r"\| nnU-Net 3D.*\| 0\.8975 \| 0\.8807 \|", (DOCS / "hippocampus.md").read_text())
    apart, low, high = re.findall(r"[+-][\d.]+", importlib.import_module("hippocampus").difference(folds))
    said = f"the mean Dice differs from that of nnU-Net on the same cases by {apart} (95 % interval {low} to {high})"
    assert said in " ".join(README.read_text().split())


def test_the_readme_has_nnunet_at_equal_time_as_it_was_measured():
    last = json.loads((DOCS / "peer_nnunet_metrics.json").read_text())["rows"][-1]
    ours, peer = (found["mean"] for found in (last["ours"], last["peer"]["mirrored"]))
    assert last["minutes"] == 120 and f"| {ours:.3f} | {peer:.3f} |" in row_of("hippocampus, mean Dice of")


def test_figures_of_the_readme_stand_in_the_guide():
    benchmarks = (DOCS / "reference" / "benchmarks.md").read_text()
    assert f" alone has {re.search(r'mean Dice (0[.]61)', benchmarks)[1]} |" in row_of("phantoms, patients not seen")


def test_the_prostate_is_as_it_was_measured():
    rows = json.loads((DOCS / "planned_metrics.json").read_text())["rows"]
    folds = [row for row in rows if row["set"] == "promise12"]
    total = sum(fold["cases"] * fold["dice"] for fold in folds) / sum(fold["cases"] for fold in folds)
    row, page = row_of("real T2 MR of the prostate"), " ".join((DOCS / "how-to" / "prostate.md").read_text().split())
    assert len(folds) == 2 and f"| {total:.3f} on 36 of the cases" in row
    for fold in folds:
        low, high = fold["ci"]
        assert re.search(rf"{fold['dice']:.3f} \((95 % interval )?{low:.3f} to {high:.3f}\)", page)
    assert f"{total:.3f} over the {sum(fold['cases'] for fold in folds)} cases" in page


def test_the_hearts_and_the_plan_beside_its_recipes_are_as_they_were_measured():
    planned = {row["set"]: row for row in json.loads((DOCS / "planned_metrics.json").read_text())["rows"]}
    recipes = json.loads((DOCS / "cardiac_metrics.json").read_text())["rows"]
    (recipe,) = [row for row in recipes if row["name"] == "narrow/val_one"]
    folds = json.loads((DOCS / "hippocampus_metrics.json").read_text())["rows"]
    (fold,) = [row for row in folds if row.get("part") == "fold1"]
    row, page = row_of("real short-axis MR"), " ".join((DOCS / "how-to" / "plan.md").read_text().split())
    plan, alone = planned["hearts"], f"{recipe['dice']['mean']:.3f}"
    minutes = [f"{plan['seconds'] / 60:.0f}", f"{recipe['minutes']:.0f}"]
    assert f"| {alone} after {minutes[1]} minutes" in row
    assert f"{plan['dice']:.3f} after {minutes[0]} minutes with" in row
    assert f"it has {plan['dice']:.3f} where one training of the recipe has {alone}, in {minutes[0]} minutes" in page
    there = mean(one["mean"] for one in fold["dice"].values())
    assert f"{planned['hippocampus']['dice']:.3f} on the fold where the recipe has {there:.3f}" in page


def test_the_brain_tumours_are_as_they_were_measured():
    rows = json.loads((DOCS / "lgg_metrics.json").read_text())["rows"]
    recipe = [row for row in rows if not row["cell"]][-1]
    row = row_of("real MR of brain tumours")
    assert recipe["what"].startswith("the recipe") and f"(LGG), {recipe['patients']} patients, " in row
    assert f"| {recipe['dice']['mean']:.2f} ([recipes]" in row


def test_the_seconds_of_an_image_are_as_they_were_measured():
    rows = {row["name"]: row for row in json.loads((DOCS / "peer_inference_metrics.json").read_text())["rows"]}
    seconds = {name: median(row["seconds"]) for name, row in rows.items()}
    fast, plain, zoo, peer = (
        seconds[name]
        for name in (
            "with `configs/fast.json`",
            "inference as shipped",
            "the zoo's order of steps",
            "nnU-Net 2.8.1 predict",
        )
    )
    row = row_of("an image of 256x256x128 on one CPU core")
    assert f"| {fast:.1f} s, without `fast.json` {plain:.1f} s | {peer:.0f} s | - | {zoo:.1f} s |" in row


def test_the_speed_of_the_readme_is_as_it_was_measured():
    def rows(name: str) -> list[dict]:
        return json.loads((DOCS / f"{name}_metrics.json").read_text())["rows"]

    fastest = max(row["factor"] for row in rows("runtimes"))
    needed = {row["way"]: row["factor"] for row in rows("inference_memory")}
    plain, fast = needed["inference as shipped"], needed["with `configs/fast.json`"]
    light = min(row["faster"] for row in rows("step_variants") if row["way"] == "light")
    (kept,) = [row["later"] for row in rows("caches") if row["way"] == "`--cache disk`"]
    (shown,) = [row for row in rows("start") if row["what"] == "help of a command"]
    seconds = {row["name"]: median(row["seconds"]) for row in rows("peer_inference")}
    gain = seconds["inference as shipped"] / seconds["with `configs/fast.json`"]
    said = row_of("speed on a CPU")
    assert f"from file to file is done {gain:.1f} times as fast" in said
    assert f"alone is up to {fastest:.1f} times as fast in int8" in said
    assert f"step is {light:.1f} times as fast" in said and f"help in {median(shown['seconds']):.1f} s" in said
    said = row_of("little memory")
    assert f"{plain:.1f} times the memory that its network needs alone, with `fast.json` {fast:.1f} times" in said
    assert f"in {1000 * kept:.0f} ms a case" in said


@pytest.mark.parametrize(
    ("page", "step", "said"),
    [
        ("flip-axis", "mirrors", "({cost:.4f}, 95 % interval {least:.4f} to {most:.4f};"),
        (
            "ensembles",
            "ensemble",
            "gained {gain:.4f} in mean Dice (95 % interval {low:+.4f} to {high:+.4f})",
        ),
    ],
)
def test_what_a_step_costs_or_gains_is_as_measured(page, step, said):
    rows = json.loads((DOCS / "strong_steps_metrics.json").read_text())["rows"]
    (found,) = [row["difference"] for row in rows if row["step"] == step]
    low, high = found["ci"]
    said = said.format(cost=-found["mean"], least=-high, most=-low, gain=found["mean"], low=low, high=high)
    assert said in " ".join((DOCS / "how-to" / f"{page}.md").read_text().split())


def test_the_readme_counts_networks_and_losses():
    listed = (json.loads((CONFIGS / f"{kind}.json").read_text()) for kind in ("networks", "losses"))
    counts = (sum(not name.startswith("_") for name in names) for names in listed)
    assert "| {} networks and {} losses by name".format(*counts) in README.read_text()


@pytest.mark.parametrize("kind", ["networks", "losses"])
def test_the_recipes_page_lists_all_networks_and_losses(kind):
    known = [name for name in json.loads((CONFIGS / f"{kind}.json").read_text()) if not name.startswith("_")]
    text = (DOCS / "recipes.md").read_text()
    assert len(known) > 10 and [name for name in known if f"`{name}`" not in text] == []


def test_pictures_are_small():
    pictures = [*DOCS.glob("*.png")]
    assert len(pictures) >= 3 and all(picture.stat().st_size < 600_000 for picture in pictures)


def test_card_repeats_the_configuration():
    train = json.loads((CONFIGS / "train.json").read_text())
    card = " ".join(CARD.read_text().split())
    for words in (
        f"{train['features']} features, dropout {train['dropout']}",
        f"{train['ce_weight']} cross-entropy",
        f"times {train['lr_decay']} an epoch",
        f"Batch {train['batch_size']}, {train['epochs']} epochs",
        f"rotation up to {train['rotate_range']} rad",
        f"Gaussian noise of {train['noise_std']}",
    ):
        assert words in card
    assert (train["learning_rate"], train["weight_decay"]) == (5e-4, 1e-5)


def test_card_has_the_templates_order():
    headings = re.findall(r"^##? (.+)$", CARD.read_text(), re.MULTILINE)
    assert headings == [
        "Model Overview", "Data", "Training configuration", "Performance", "MONAI Bundle Commands",
        "System Configuration", "Limitations", "Citation", "References",
    ]  # fmt: skip


def test_readme_is_short_and_in_order():
    text = README.read_text()
    assert len(text.splitlines()) <= 120
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == [
        "Quick start", "Results", "Use your own data", "What else it does", "How it compares",
        "Limits, and when not to use it", "Citation and licence",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "file",
    [README, CARD, ROOT / "SECURITY.md", BUNDLE / "models" / "README.md"]
    + [DOCS / name for name in ("getting-started.md", "hippocampus.md", "recipes.md", "how-to/own-data.md")],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_research_use_only_is_said_where_one_lands(file):
    assert re.search("research use only", file.read_text(), re.IGNORECASE)
