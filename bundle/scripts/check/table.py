"""The table that `python -m scripts.check` prints: numbers on the data set and its classes, warnings and errors."""

from collections.abc import Sequence

import numpy as np

from scripts.data.label_maps import voxel_ml


def check_table(found, class_names: Sequence[str]) -> list[str]:
    """Returns the lines for `scripts.check.dataset.Findings`. Files with errors are counted, but not measured."""
    sound = {path: facts for path, facts in found.files.items() if "error" not in facts}
    images = [sound[path] for path in dict.fromkeys(case.image for case in found.cases) if path in sound]
    labels = [sound[path] for path in dict.fromkeys(case.label for case in found.cases) if path in sound]
    lines = [
        f"files        {len(found.files)} ({found.read} read, {len(found.files) - found.read} unchanged)",
        f"cases        {len(found.cases)}, {sum(case.label is not None for case in found.cases)} with a label",
        f"patients     {len({case.patient for case in found.cases})}",
    ]
    if images:
        types = sorted({facts["dtype"] for facts in images})
        lines += [
            f"shape        {range_text([facts['ras_shape'] for facts in images])} along R, A, S",
            f"spacing mm   {range_text([facts['spacing'] for facts in images])}",
            f"stored as    {', '.join(types)}; {', '.join(sorted({facts['orientation'] for facts in images}))}",
        ]
    counted = [facts for facts in labels if facts["counts"]]
    if counted:
        lines += ["", f"{'class':<16} {'labels':>7} {'voxels':>8} {'ml, least':>11} {'median':>9} {'most':>9}"]
        lines += [class_line(name, str(value), counted) for value, name in enumerate(class_names)]
    lines += [""] + [f"warning: {text}" for text in found.warnings] + [f"error: {text}" for text in found.errors]
    return lines + [f"{len(found.errors)} errors, {len(found.warnings)} warnings"]


def range_text(rows: Sequence[Sequence[float]]) -> str:
    """Returns the smallest and the largest value along each axis."""
    axes = zip(np.min(rows, axis=0), np.max(rows, axis=0))
    return " x ".join(f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}" for low, high in axes)


def class_line(name: str, value: str, labels: Sequence[dict]) -> str:
    """Returns how many labels have a class, its share of all voxels, and its volumes in the labels that have it."""
    voxels = np.array([facts["counts"].get(value, 0) for facts in labels])
    millilitres = voxels * [voxel_ml(np.array(facts["affine"])) for facts in labels]
    share = voxels.sum() / sum(sum(facts["counts"].values()) for facts in labels)
    start = f"{name:<16} {(voxels > 0).sum():>7} {share:>8.2%}"
    if not voxels.any():
        return f"{start} {'-':>11} {'-':>9} {'-':>9}"
    present = millilitres[voxels > 0]
    return f"{start} {present.min():>11.1f} {np.median(present):>9.1f} {present.max():>9.1f}"
