"""Writes a plan as a patch that a person can read and change."""

import json
from pathlib import Path

from scripts.core.files import atomic_write
from scripts.plan.settings import Plan

WIDTH = 140  # what fits on a line is not divided
DEEPEST = 2  # levels below which nothing is divided: a step of a chain stays on one line


def patch_of(plan: Plan, about: str) -> dict:
    """The content of the file.

    Args:
        plan: what was chosen.
        about: what the file is for.
    """
    content: dict = {"_desc_": about}
    for name, value in plan.settings.items():
        if name in plan.reasons:
            content[f"_desc_{name}"] = plan.reasons[name]
        content[name] = value
    return content


def write_patch(content: dict, file: Path) -> None:
    """Writes a patch with every setting, and every step of a chain, on a line of its own."""
    lines = [f"    {json.dumps(name)}: {as_text(value)}" for name, value in content.items()]
    with atomic_write(file) as partial:
        partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def as_text(value: object, indent: str = "    ") -> str:
    """JSON, with every item of what is too long for a line on one of its own."""
    text, inner = json.dumps(value, ensure_ascii=False), indent + "    "
    if len(text) <= WIDTH or not isinstance(value, list | dict) or indent.count("    ") > DEEPEST:
        return text
    if isinstance(value, list):
        items, ends = [as_text(item, inner) for item in value], "[]"
    else:
        items, ends = [f"{json.dumps(key)}: {as_text(item, inner)}" for key, item in value.items()], "{}"
    return ends[0] + "\n" + ",\n".join(inner + item for item in items) + f"\n{indent}{ends[1]}"
