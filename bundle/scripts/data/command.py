"""The command `python -m scripts.datalist`: finds the pairs of a folder and writes a datalist."""

from collections.abc import Sequence

from scripts.data.datalist import make_datalist, write_datalist
from scripts.data.splits import SPLITS, check_shares
from scripts.run.knobs import check


def main(
    dataset_dir: str,
    output: str,
    folds: int = 0,
    seed: int = 0,
    validation: float = 0.15,
    test: float = 0.15,
    class_names: Sequence[str] | None = None,
) -> None:
    """Finds the pairs of image and label in a folder, splits them by patient and writes the datalist.

    Example: python -m scripts.datalist --dataset_dir DIR --output datalist.json

    Args:
        dataset_dir: folder of the data set, in a layout that `scripts.data.layouts` knows.
        output: the JSON file to write.
        folds: 0 for one split, or 2 or more for cross-validation.
        seed: of the shuffle.
        validation: share of the patients, in [0, 1).
        test: share of the patients, in [0, 1).
        class_names: names of the label values 0, 1, ...
    """
    check({"folds": folds, "seed": seed} | ({} if class_names is None else {"class_names": class_names}))
    check_shares(validation, test)
    content = make_datalist(dataset_dir, class_names, validation, test, folds, seed)
    write_datalist(content, output)
    for split in SPLITS:
        patients = {entry["patient"] for entry in content[split]}
        print(f"{split:<10} {len(patients):>4} patients {len(content[split]):>5} scans")
    print(f"written: {output}")
