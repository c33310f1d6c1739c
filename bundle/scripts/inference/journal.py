"""`run.json`: the record of an inference or evaluation, with the result of every case. It is written after each case.

With `resume` a later run reads it and skips the cases that are finished. The writer, the scorer, `skipping.py` and
`submission.py` use it.
"""

import hashlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.core.describe import settings_text
from scripts.core.errors import UserError
from scripts.core.files import read_json, write_json
from scripts.core.processes import is_main_process
from scripts.data.anonymise import case_code, secret_word
from scripts.data.digests import sha256_of_files
from scripts.data.layouts import case_name, scan_key
from scripts.data.slices import scan_exists

logger = logging.getLogger(__name__)

DONE, FAILED = "done", "failed"


class Journal:
    """Records which cases are done and which have failed. If any has failed, the exit status of the command is 1.

    Args:
        output_dir: folder of `run.json` and of the results.
        weights: file, or files, of the network's weights.
        settings: everything else that a result depends on: transforms, network, numbers. They are compared as text.
        anonymise: True or a secret word: write codes in place of names.
        resume: skip the cases that an existing `run.json` records as done, if input, weights and settings are the same
            and the result still exists.
    """

    def __init__(
        self,
        output_dir: str,
        weights: str | Sequence[str],
        settings: Sequence = (),
        anonymise: bool | str = False,
        resume: bool = False,
    ):
        self.file = Path(output_dir) / "run.json"
        self.weights, self.settings, self.resume = weights, settings, resume
        self.word = secret_word(anonymise)
        self.cases: dict[str, dict] = {}
        self.earlier: dict[str, dict] = {}

    def begin(self) -> None:
        """Starts the record, and reads that of an earlier run if `resume` is set. The weights must exist by now."""
        self.cases = {}
        self.made_with = {
            "weights": sha256_of_files(self.weights),
            "settings": hashlib.sha256(settings_text(self.settings).encode()).hexdigest(),
        }
        self.earlier = {}
        if self.resume and self.file.is_file():
            content = read_json(self.file)
            if content.get("made_with") == self.made_with:
                self.earlier = {case["image"]: case for case in content["cases"] if case["fate"] == DONE}
            else:
                logger.info(f"{self.file}: made with other weights or settings; every case is done again")
        elif self.resume:
            logger.info(f"nothing to resume: no {self.file}, every case is done")

    def public_name(self, image: str) -> str:
        """Returns the name of a case in the record: the path of its image, or its code."""
        return image if self.word is None else case_code(case_name(image), scan_key(image)[0], self.word)

    def is_done(self, image: str, input_digest: str) -> bool:
        """Returns whether an earlier run has made the result from the same input, in the same way."""
        case = self.earlier.get(self.public_name(image))
        if not case or case["digest"] != input_digest or not scan_exists(file := self.file.parent / case["output"]):
            return False
        return "output_digest" not in case or case["output_digest"] == sha256_of_files(file)

    def record_done(self, image: str, input_digest: str, output: str, seconds: float, sealed: bool = False) -> None:
        """Records a result. If `sealed`, it is valid only as long as its file does not change; others may be edited."""
        facts = {"fate": DONE, "digest": input_digest, "output": output, "seconds": round(seconds, 3)}
        seal = {"output_digest": sha256_of_files(self.file.parent / output)} if sealed else {}
        self.record(image, {**facts, **seal})

    def reuse(self, image: str) -> str:
        """Copies the record of a case from an earlier run, and returns the name of its result."""
        self.record(image, self.earlier[self.public_name(image)])
        return self.earlier[self.public_name(image)]["output"]

    def record_failure(self, image: str, reason: str) -> None:
        """Records and logs that a case has failed."""
        if self.word is not None:  # a path may contain a patient's name
            reason = " ".join("(a file)" if "/" in part or ".nii" in part else part for part in reason.split())
        shown = self.public_name(image)
        logger.warning(f"{reason if reason.startswith(shown) else f'{shown}: {reason}'}; skipped")
        self.record(image, {"fate": FAILED, "reason": reason})

    def record(self, image: str, facts: dict) -> None:
        self.cases[self.public_name(image)] = {"image": self.public_name(image), **facts}
        self.write()

    def failures(self) -> list[str]:
        return [f"{case['image']}: {case['reason']}" for case in self.cases.values() if case["fate"] == FAILED]

    def write(self) -> None:
        if not is_main_process():
            return
        content: dict = {"date": time.strftime("%Y-%m-%d %H:%M %Z"), "made_with": self.made_with}
        content["cases"] = [self.cases[image] for image in sorted(self.cases)]
        write_json(content, self.file)

    def exit_with_status(self) -> None:
        """Ends the command with exit status 1 if a case has failed. This is the last step of a run.

        Raises:
            UserError: how many cases have failed.
        """
        failed = [case for case in self.cases.values() if case["fate"] == FAILED]
        if failed:
            names = ", ".join(Path(case["image"]).name for case in failed[:3]) + (", ..." if len(failed) > 3 else "")
            raise UserError(
                f"{len(failed)} of {len(self.cases)} cases failed ({names}); the others are complete. {self.file} has "
                "the reasons; fix or remove these cases and start again with --resume True"
            )
