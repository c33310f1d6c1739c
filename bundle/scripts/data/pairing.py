"""Pairs images with labels by what their names have in common, and refuses what has no partner or two."""

from collections.abc import Iterable
from pathlib import Path

from scripts.core.errors import UserError

Pair = tuple[Path, Path | None]  # an image, and its label if it has one


def index_by_key(paths: Iterable[Path], key) -> dict:
    """Returns paths by key. Two paths of one key are refused, because one would silently replace the other."""
    found: dict = {}
    for path in paths:
        name = key(path)
        if name in found:
            shown = f"patient {name[0]}, week {name[1]}" if isinstance(name, tuple) else f"name {name}"
            raise UserError(f"{path}: the same {shown} as {found[name]}; expected one file for each, move one away")
        found[name] = path
    return found


def refuse_unpaired(images: dict, labels: dict, name: str = "mask", where: str = "") -> None:
    """Refuses an image without a label, or a label without an image."""
    for here, there, missing in ((images, labels, name), (labels, images, "image")):
        alone = [path for key, path in here.items() if key not in there]
        if alone:
            more = f" (and for {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise UserError(f"{alone[0]}: no {missing} for it{where}{more}; add it, or move the file away")


def match(images: dict, labels: dict, unlabelled: bool = False, name: str = "mask", where: str = "") -> list[Pair]:
    """Pairs images and labels of equal keys, and refuses those without a partner, if not `unlabelled`.

    Args:
        images: paths by key.
        labels: paths by key.
        unlabelled: images may be without a label, and labels without an image are passed over.
        name: of a label, for the message.
        where: they were looked for, for the message.
    """
    if not unlabelled:
        refuse_unpaired(images, labels, name, where)
    return [(image, labels.get(key)) for key, image in images.items()]
