"""Type and range of the knobs: a wrong one is refused in one line before anything is built.

`configs/knobs.schema.json` holds one entry for every knob. It is a JSON Schema, of which this module understands the
words that it uses; editors and other programs can use the same file.
"""

import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any

import torch
from monai.bundle import ConfigParser

from scripts.core.errors import UserError
from scripts.core.hardware import supports_bfloat16
from scripts.core.paths import BUNDLE, CONFIGS
from scripts.run.command_line import refuse_misspelled_ids
from scripts.run.configuration import current_parser, value_of

logger = logging.getLogger(__name__)

SCHEMA = CONFIGS / "knobs.schema.json"
NOT_SHAPING = {"data", "inference", "run", "machine", "paths"}  # groups of knobs that change no step of a training
TYPES: dict[str, tuple[type | UnionType, str]] = {  # of JSON: what they are in Python, and in words
    "integer": (int, "a whole number"),
    "number": (int | float, "a number"),
    "string": (str, "a text"),
    "boolean": (bool, "True or False"),
    "array": (list | tuple, "a list"),
    "null": (type(None), "None"),
}


@cache
def rules() -> dict[str, dict]:
    """The entry of every knob."""
    return json.loads(SCHEMA.read_text(encoding="utf-8"))["properties"]


def check_configuration() -> dict[str, object]:
    """Checks every knob of the configuration that this is a component of, and returns the values by name."""
    parser = current_parser()
    if "own_folder" in parser.config:
        warn_of_other_scripts(str(value_of(parser, "own_folder")))
    refuse_misspelled_ids(parser.config)
    shown = parser.config.get("displayable_configs", {})  # another program's panel may have changed these
    values = {
        name: value_of(parser, f"displayable_configs::{name}" if name in shown else name)
        for name in rules()
        if name in parser.config
    }
    check(values)
    check_dimensions(values)
    check_outputs(values, parser)
    if "rate_factor" in parser.config and values.get("pretrained") is None:
        logger.warning("configs/finetune.json is for a training from given weights: name them with --pretrained FILE")
    if "finishing" in parser.config:  # not in a training, whatever a recipe wants done afterwards
        check_pieces(values)
    if values.get("sliding_window") and "@windows" not in str(parser["plain_inferer"]):
        raise UserError(
            "sliding_window is True, but the recipe's plain_inferer says how an image is divided, if at all; leave "
            "--sliding_window out"
        )
    if values.get("half") and "device" in parser.config:
        check_half(value_of(parser, "device"))
    return values


def warn_of_other_scripts(folder: str) -> None:
    """Says so if a copy of the bundle is run by the scripts of another copy, which this process has loaded before."""
    beside = Path(folder) / "scripts"
    if beside.is_dir() and not beside.samefile(BUNDLE / "scripts"):
        logger.warning(f"{beside}: not used, as {BUNDLE / 'scripts'} is loaded already; run each in its own process")


def shaping(knobs: Mapping[str, object]) -> dict[str, object]:
    """The knobs on which the steps of a training depend; the cases in the splits are compared by themselves."""
    return {name: value for name, value in knobs.items() if rules().get(name, {}).get("group") not in NOT_SHAPING}


def check(knobs: Mapping[str, Any]) -> None:
    """Refuses the first knob whose type or range is wrong.

    Args:
        knobs: values by name; a name without a rule is not checked.
    """
    for name, value in knobs.items():
        rule = rules().get(name, {})
        if rule.get("format") == "device":
            check_device(value)
        elif not fits(value, rule):
            hint = f"give another --{name}"
            if "examples" in rule:
                hint = (
                    f'say --{name} "{json.dumps(rule["examples"][0], separators=(",", ":")).replace(chr(34), chr(39))}"'
                )
            elif rule["type"] == "boolean":
                hint = f"say --{name} True"
            raise UserError(f"{name} is {value!r}: expected {in_words(rule)}; {hint}")


def check_dimensions(knobs: Mapping[str, Any]) -> None:
    """Refuses a size with another number of axes than the network has."""
    for name in ("spatial_size", "window_size"):
        size, axes = knobs.get(name), knobs.get("spatial_dims")
        if size and axes and len(size) != axes:
            raise UserError(f"{name} is {size}: expected {axes} numbers, as spatial_dims says; give another --{name}")


def check_outputs(knobs: Mapping[str, Any], parser: ConfigParser) -> None:
    """Refuses a number of maps that is not that of the classes. One map, above a threshold, has two classes."""
    if not {"out_channels", "class_names"} <= knobs.keys() or "to_labels" not in parser.config:
        return
    maps, classes = knobs["out_channels"], len(knobs["class_names"])
    above_threshold = "threshold" in parser["to_labels"]
    if (maps, classes) != (1, 2) if above_threshold else maps != classes:
        expected = "1 map for 2 classes, as to_labels has a threshold" if above_threshold else "a map for each class"
        raise UserError(
            f"out_channels is {maps} and class_names has {classes} names: expected {expected}; leave --out_channels "
            "out, or give other --class_names"
        )


def check_pieces(knobs: Mapping[str, Any]) -> None:
    """Refuses to keep the largest pieces where none of the classes is to be one piece: nothing would be done."""
    pieces, names = knobs.get("single_piece", []), knobs.get("class_names", [])
    if knobs.get("keep_largest") and not set(pieces) & set(names):
        raise UserError(
            f"keep_largest is True, but single_piece, {pieces}, has none of the classes {names}; say "
            f'--single_piece "{names[-1:]}" with the names of those that are one piece'
        )


def check_class_names(names: Sequence[str]) -> list[str]:
    """The names of the label values 0, 1, ..., the background first."""
    check({"class_names": names})
    return list(names)


def check_device(device: str | torch.device) -> None:
    """Refuses a device that this machine does not have."""
    try:
        torch.empty(0, device=torch.device(device))
    except Exception as error:  # torch raises many kinds
        found = "cpu" + "".join(f", cuda:{i}" for i in range(torch.cuda.device_count()))
        raise UserError(f"device is {device!r}: expected one of this machine ({found}); say --device cpu") from error


def check_half(device: Any) -> None:
    """Refuses bfloat16 on a processor that would take hundreds of times as long with it."""
    if torch.device(device).type == "cpu" and not supports_bfloat16(device):
        raise UserError(
            "half is True: this processor has no instructions for bfloat16, without which a run hardly ends; expected "
            "AVX-512 BF16 or AMX; leave --half out"
        )


def types_of(rule: Mapping) -> list[str]:
    kinds = rule.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def fits(value: object, rule: Mapping) -> bool:
    """Whether a value is what an entry of the schema asks for."""
    kinds = types_of(rule)
    if kinds and not any(is_kind(value, kind) for kind in kinds):
        return False
    if "enum" in rule and value not in rule["enum"]:
        return False
    if isinstance(value, list | tuple):
        few, many = rule.get("minItems", 0), rule.get("maxItems", math.inf)
        repeated = rule.get("uniqueItems") and len(set(map(repr, value))) < len(value)
        return few <= len(value) <= many and not repeated and all(fits(item, rule.get("items", {})) for item in value)
    if isinstance(value, str):
        return re.search(rule.get("pattern", ""), value) is not None
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = rule.get("minimum", -math.inf), rule.get("maximum", math.inf)
        above, below = rule.get("exclusiveMinimum", -math.inf), rule.get("exclusiveMaximum", math.inf)
        return low <= value <= high and above < value < below
    return True


def is_kind(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, TYPES[kind][0]) and not (isinstance(value, float) and not math.isfinite(value))


def in_words(rule: Mapping) -> str:
    """What an entry of the schema asks for: `a whole number from 1`, `a list of 2 to 3 whole numbers from 1`."""
    if "enum" in rule:
        return f"one of {', '.join(map(str, rule['enum']))}"
    words = [array_in_words(rule) if kind == "array" else TYPES[kind][1] for kind in types_of(rule)]
    return " or ".join(words) + limits_in_words(rule)


def array_in_words(rule: Mapping) -> str:
    few, many = rule.get("minItems"), rule.get("maxItems")
    count = (
        f"{few} " if few == many and few else f"{few} to {many} " if few and many else f"{few} or more " if few else ""
    )
    different = "different " if rule.get("uniqueItems") else ""
    item = rule.get("items", {})
    if "enum" in item:
        return f"a list of {count}{different}values out of {', '.join(map(str, item['enum']))}"
    kinds = {"integer": "whole numbers", "number": "numbers", "string": "texts"}
    return f"a list of {count}{different}{kinds.get(item.get('type'), 'values')}{limits_in_words(item)}"


def limits_in_words(rule: Mapping) -> str:
    low = f" from {rule['minimum']}" if "minimum" in rule else ""
    low = f" above {rule['exclusiveMinimum']}" if "exclusiveMinimum" in rule else low
    high = (
        f" to {rule['maximum'] if isinstance(rule['maximum'], int) else round(rule['maximum'], 4)}"
        if "maximum" in rule
        else ""
    )
    return low + (f" to below {rule['exclusiveMaximum']}" if "exclusiveMaximum" in rule else high)
