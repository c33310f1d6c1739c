"""Writes a plan as a patch that a person can read and change."""

import json
from pathlib import Path

from scripts.core.files import atomic_write
from scripts.plan.choices import Plan

WIDTH = 140  # a list that fits on a line is not divided


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


def as_text(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, list) and len(text) > WIDTH:
        return "[\n" + ",\n".join(f"        {json.dumps(item, ensure_ascii=False)}" for item in value) + "\n    ]"
    return text
