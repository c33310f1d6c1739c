"""Writes bundle/docs/knobs.md: every knob, its meaning, type and range, and its value in every configuration.

    python .ci/knobs_page.py

The meaning comes from configs/knobs.schema.json, the values from the configurations themselves.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIGS, PAGE = ROOT / "bundle" / "configs", ROOT / "bundle" / "docs" / "knobs.md"
BASES = ("train", "evaluate", "inference")  # in this order; the patches come after them
INTRODUCTION = """# Knobs

A knob is a setting with a name. Its value is at the top of `configs/train.json`, `configs/evaluate.json` or
`configs/inference.json`, or in a patch. Every knob can be set on the command line: `--epochs 100`. Settings that shape
the network or its input, such as `features`, `spatial_size` and `class_names`, are in `train.json` and in
`inference.json`: set them for both, best in one patch. A value of the wrong type or outside the range is refused in one
line before anything is built. Write None as `'$None'` on the command line and as `null` in a file.

"Default" is the value in `train.json`; other values for evaluation or inference are named. "Other values" are those of
the patches. This page is generated from `configs/knobs.schema.json` and the configurations by
`python .ci/knobs_page.py`.
"""

sys.path.insert(0, str(ROOT / "bundle"))
from scripts.run.command_line import NO_PATCHES  # noqa: E402
from scripts.run.knobs import in_words  # noqa: E402


def page() -> str:
    """The whole page as Markdown."""
    schema = json.loads((CONFIGS / "knobs.schema.json").read_text(encoding="utf-8"))
    contents = {
        file.stem: json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(CONFIGS.glob("*.json"), key=lambda file: (file.stem not in BASES, file.stem))
        if file.name not in NO_PATCHES
    }
    parts = [INTRODUCTION]
    for group, title in schema["groups"].items():
        rows = [
            f"## {title}",
            "",
            "| knob | meaning | type and range | default | other values |",
            "|---|---|---|---|---|",
        ]
        for name, rule in schema["properties"].items():
            if rule["group"] == group:
                rows.append(f"| {' | '.join(row(name, rule, contents))} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def row(name: str, rule: dict, contents: dict) -> list[str]:
    kind = "a device of PyTorch, such as cpu or cuda:0" if rule.get("format") == "device" else in_words(rule)
    default = [(base, contents[base][name]) for base in BASES if name in contents.get(base, {})]
    first = default[0][1] if default else None
    texts = [written(first)] if default else ["-"]
    texts += [f"{base}: {written(value)}" for base, value in default[1:] if value != first]
    if default and default[0][0] != "train":
        texts[0] += f" ({default[0][0]})" if len(default) == 1 else ""
    others = [
        f"{stem}: {written(content[name])}"
        for stem, content in contents.items()
        if stem not in BASES and name in content
    ]
    return [f"`{name}`", rule["description"], kind, "<br>".join(texts), "<br>".join(others) or "-"]


def written(value: object) -> str:
    """A value as Markdown; what is computed is shown as its formula."""
    if isinstance(value, dict):
        return f"computed by `{value['_target_']}`"
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`".replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")
