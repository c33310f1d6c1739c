"""The command `python -m scripts.next`: names the scans to label next."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai.bundle import ConfigWorkflow

from scripts.core.errors import UserError
from scripts.core.paths import BUNDLE, CONFIGS
from scripts.data.anonymise import secret_word
from scripts.next.ranking import refuse_codes
from scripts.run.command_line import refuse_unknown_ids, refuse_unread_ids
from scripts.run.configuration import refuse_missing_files, refuse_wrong_order

logger = logging.getLogger(__name__)

PATCH = str(CONFIGS / "next.json")


def main(
    dataset_dir: str,
    count: int = 10,
    output_dir: str = "next",
    config_file: str | Sequence[str] = "configs/inference.json",
    **overrides,
) -> None:
    """Names the scans without a label from which a network would learn most, unlike each other: next.csv.

    Example: python -m scripts.next --dataset_dir DIR --count 10

    Args:
        dataset_dir: a folder in any layout that inference reads, or a datalist; scans that have a label are not named.
        count: of the scans that are named.
        output_dir: folder of the table.
        config_file: configuration files of the inference, with the recipe of the weights.
        overrides: ids and values as for the inference, such as --ckpt_dir DIR.
    """
    given = {name.replace("#", "::"): value for name, value in overrides.items()}
    files = [config_file] if isinstance(config_file, str) else [str(file) for file in config_file]
    refuse_missing_files(files)
    refuse_wrong_order(files)
    check_ids([*files, PATCH], given)
    refuse_codes(secret_word(given.get("anonymise")))
    given = {"bundle_root": str(BUNDLE)} | given
    given |= {"dataset_dir": dataset_dir, "count": count, "output_dir": output_dir}
    try:
        made = ConfigWorkflow(
            config_file=[*(str(Path(file).resolve()) for file in files), PATCH],
            workflow_type="infer",
            run_id="inference",
            **given,
        )
    except KeyError as error:  # next.json changes parts of an inference
        raise UserError(
            f"--config_file: {', '.join(files)} is no inference; begin with configs/inference.json"
        ) from error
    made.initialize()
    if "ckpt_dir" not in given and isinstance(made.parser["weights_file"], dict):  # no file and no folder was named
        file = made.parser.get_parsed_content("weights_file")
        if not Path(file).is_file():
            logger.info(f"{file}: no weights there yet, so the scans are chosen by what they show alone")
            made.run_id = "by_images"
    made.run()
    made.finalize()


def check_ids(files: Sequence[str], given: Mapping[str, object]) -> None:
    """Refuses ids that are unknown, or that nothing in these configurations uses."""
    names = [f"--{name}" for name in given]
    refuse_unknown_ids(["run", "--config_file", str(list(files)), *names])
    refuse_unread_ids(names, files, list(given.values()), "by_images")
