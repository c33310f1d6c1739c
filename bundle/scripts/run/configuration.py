"""The configuration that a component is a part of: its knobs as the user has set them, patches and overrides included.

MONAI gives a component its own arguments and nothing else. What concerns every knob, such as checking them all, would
need a list of them in the configuration, which somebody forgets to extend. So the parser is looked up instead.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path

from monai.bundle import ConfigParser

from scripts.core.errors import UserError

PLACES = {"train.json": 0, "inference.json": 0, "evaluate.json": 1}  # of configurations that patches follow
RANKS = {  # of patches that change what others say; a recipe has 1
    "demo.json": 1, "strong.json": 2, "strong_2d.json": 2, "finetune.json": 3, "mirrored.json": 4, "ensemble.json": 4,
}  # fmt: skip
AXES = {"strong.json": 3, "strong_2d.json": 2}  # of the images that a patch changes
ALONE = "resize_last.json"  # its order of steps has nothing of a recipe, or of a stronger training


def current_parser() -> ConfigParser:
    """The parser that is building the component that calls this function.

    Raises:
        RuntimeError: no parser is at work; the caller was not built from a configuration.
    """
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigParser):
            return owner
        frame = frame.f_back
    raise RuntimeError("no configuration is being built here; call this from a component of a configuration")


def refuse_missing_files(files: Sequence[str]) -> None:
    """Refuses the first configuration file that is not there."""
    for file in files:
        if not Path(file).is_file():
            raise UserError(f"{file}: no such configuration file; --config_file takes one, or \"['FILE','PATCH']\"")


def refuse_wrong_order(files: Sequence[str]) -> None:
    """Refuses a patch that stands before the file that it changes, which would replace what the patch says."""
    for number, file in enumerate(files):
        place = PLACES.get(Path(file).name, number)
        if number > place:
            raise UserError(
                f"--config_file: {files[place]} stands before {file}, which replaces what it says; put {file} "
                f"{('first', 'second')[place]}"
            )
        early = [other for other in files[:number] if rank(other) > rank(file) > 0]
        if early:
            raise UserError(
                f"--config_file: {early[0]} stands before {file}, which replaces what it says; put {early[0]} after it"
            )
    others = [file for file in files if rank(file) in (1, 2) and Path(file).name != "demo.json"]
    if others and any(Path(file).name == ALONE for file in files):
        raise UserError(
            f"--config_file: {ALONE} is for train.json as it is; with {others[0]} training would see other images than "
            "validation; leave one of the two out"
        )
    refuse_other_axes(files)


def refuse_other_axes(files: Sequence[str]) -> None:
    """Refuses the random changes of volumes after a recipe of slices, and those of slices after one of volumes."""
    there = [file for file in files if Path(file).is_file()]
    axes = ConfigParser.load_config_files(there).get("spatial_dims") if there else None
    for file in there:
        expected = AXES.get(Path(file).name, axes)
        if expected != axes and axes in AXES.values():
            other = next(name for name in AXES if AXES[name] == axes)
            raise UserError(
                f"--config_file: {file} is for images of {expected} axes, and the other files are for {axes} "
                f"(spatial_dims); put configs/{other} in its place"
            )


def rank(file: str) -> int:
    """The place of a shipped patch among others, 0 for any other file."""
    name = Path(file).name
    return 1 if name.startswith("recipe_") else RANKS.get(name, 0)


def value_of(parser: ConfigParser, name: str) -> object:
    """The value of an id such as `a` or `a::b`; an expression is evaluated, as the configuration will see it."""
    written = parser[name]
    is_plain = not isinstance(written, dict) and not (isinstance(written, str) and written[:1] in "$@%")
    return written if is_plain else parser.ref_resolver.get_resolved_content(name)
