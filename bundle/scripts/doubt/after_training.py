"""The last step of a training: what `configs/calibrate.json` does, in the same process, on the validation cases."""

import logging
from collections.abc import Mapping
from pathlib import Path

from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

from scripts.core.errors import UserError, one_line_reason
from scripts.core.files import read_json
from scripts.core.paths import CONFIGS
from scripts.core.processes import number_and_count
from scripts.doubt import calibration
from scripts.doubt.model import FEWEST
from scripts.run.configuration import current_parser

logger = logging.getLogger(__name__)

PATCHES = ("evaluate", "calibrate")
STEPS = "calibrating"  # id of the steps, in calibrate.json
LATER = "docs/how-to/doubt.md says how to do it later"


def learn_from_validation(cases: Mapping, ckpt_dir: str) -> None:
    """Learns how good results of the new weights are. A failure is a warning: the training is done all the same.

    It is left out where there is no validation case, where several processes train, and where a training that had
    ended before is only started again.

    Args:
        cases: of `scripts.data.cases.cases_of_run`.
        ckpt_dir: folder of `model.pt`.
    """
    weights = str(Path(ckpt_dir) / "model.pt")
    if number_and_count()[1] > 1:
        logger.info(f"not learned how good results are, as several processes train; {LATER}")
        return
    if not cases["validation"] or is_learned(weights):
        return
    logger.info(f"learning from the {len(cases['validation'])} validation cases how good results are ...")
    given = current_parser()
    try:
        configured(given, cases).get_parsed_content(STEPS)
    except Exception as error:
        logger.warning(f"not learned how good results are: {one_line_reason(error)}; {LATER}")


def is_learned(weights: str) -> bool:
    try:
        known = calibration.read(weights)
    except UserError:
        return False
    return known is not None and known.weights == calibration.digest(weights)


def configured(given: ConfigParser, cases: Mapping) -> ConfigParser:
    """The configuration of the training with the patches on top. What a recipe or the user has set stays, where the
    training itself has no such id."""
    usual = read_json(CONFIGS / "train.json")
    made = ConfigParser(copied(given.config), globals={**given.globals, "cases_of_training": cases})
    for patch in PATCHES:
        for name, value in read_json(CONFIGS / f"{patch}.json").items():
            if name in usual or name not in given.config:
                merge_kv(made, name, value)
    made["train::dataset::data"] = "$cases_of_training['training']"
    made["validate::dataset::data"] = "$cases_of_training['validation']"
    if len({cases["patients"].get(case["image"]) for case in cases["validation"]}) < FEWEST:
        made["worsened"] = 0  # no Dice is predicted from so few, so none is needed of bad images
    return made


def copied(part):
    """A copy of the dictionaries and lists of a configuration; what another program has put into it stays itself."""
    if type(part) is dict:
        return {name: copied(value) for name, value in part.items()}
    return [copied(value) for value in part] if type(part) is list else part
