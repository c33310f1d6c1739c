"""`run.json`: what became of every case of an inference or evaluation, written after each one."""

import hashlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from scripts.core.errors import UserError
from scripts.core.files import read_json, write_json
from scripts.core.processes import is_main_process
from scripts.data.anonymise import case_code, secret
from scripts.data.digests import digest
from scripts.data.layouts import case_name, scan_key
from scripts.data.slices import exists

logger = logging.getLogger(__name__)

DONE, FAILED = "done", "failed"


class Journal:
    """Knows what is done and what has failed, and says so at the end by the exit status.

    Args:
        output_dir: folder of `run.json` and of the results.
        weights: file the network's weights come from, or files.
        settings: whatever else a result depends on: transforms, network, numbers; compared as text.
        anonymise: True or a secret word: codes in place of names.
        resume: go by the `run.json` that is there: a case counts as done if its input, the weights and the settings
            are the same as then and its result is still there.
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
        self.word = secret(anonymise)
        self.cases: dict[str, dict] = {}
        self.earlier: dict[str, dict] = {}

    def begin(self) -> None:
        """To be called once the weights are there; reads what an earlier run has done."""
        self.cases = {}
        self.made_with = {
            "weights": digest(self.weights),
            "settings": hashlib.sha256(described(self.settings).encode()).hexdigest(),
        }
        self.earlier = {}
        if self.resume and self.file.is_file():
            content = read_json(self.file)
            if content.get("made_with") == self.made_with:
                self.earlier = {case["image"]: case for case in content["cases"] if case["fate"] == DONE}
            else:
                logger.info(f"{self.file}: made with other weights or settings; every case is done anew")
        elif self.resume:
            logger.info(f"nothing to resume: no {self.file}, every case is done")

    def shown(self, image: str) -> str:
        """What a case is called in the file: the image's path, or its code."""
        return image if self.word is None else case_code(case_name(image), scan_key(image)[0], self.word)

    def is_done(self, image: str, input_digest: str) -> bool:
        """Whether an earlier run has left the result of the same input, made the same way."""
        case = self.earlier.get(self.shown(image))
        if not case or case["digest"] != input_digest or not exists(file := self.file.parent / case["output"]):
            return False
        return "output_digest" not in case or case["output_digest"] == digest(file)

    def done(self, image: str, input_digest: str, output: str, seconds: float, sealed: bool = False) -> None:
        """Notes a result; one that is sealed counts only as it is now, another may be corrected by hand."""
        facts = {"fate": DONE, "digest": input_digest, "output": output, "seconds": round(seconds, 3)}
        seal = {"output_digest": digest(self.file.parent / output)} if sealed else {}
        self.note(image, {**facts, **seal})

    def keep(self, image: str) -> str:
        """Takes over what an earlier run has noted; returns the name of its result."""
        self.note(image, self.earlier[self.shown(image)])
        return self.earlier[self.shown(image)]["output"]

    def fail(self, image: str, reason: str) -> None:
        if self.word is not None:  # what looks like a file may hold a name
            reason = " ".join("(a file)" if "/" in part or ".nii" in part else part for part in reason.split())
        shown = self.shown(image)
        logger.warning(f"{reason if reason.startswith(shown) else f'{shown}: {reason}'}; skipped")
        self.note(image, {"fate": FAILED, "reason": reason})

    def note(self, image: str, facts: dict) -> None:
        self.cases[self.shown(image)] = {"image": self.shown(image), **facts}
        self.write()

    def failures(self) -> list[str]:
        return [f"{case['image']}: {case['reason']}" for case in self.cases.values() if case["fate"] == FAILED]

    def write(self) -> None:
        if not is_main_process():
            return
        content: dict = {"date": time.strftime("%Y-%m-%d %H:%M %Z"), "made_with": self.made_with}
        content["cases"] = [self.cases[image] for image in sorted(self.cases)]
        write_json(content, self.file)

    def leave(self) -> None:
        """Ends the command with status 1 if a case has failed; the last thing to be done."""
        failed = [case for case in self.cases.values() if case["fate"] == FAILED]
        if failed:
            names = ", ".join(Path(case["image"]).name for case in failed[:3]) + (", ..." if len(failed) > 3 else "")
            raise UserError(
                f"{len(failed)} of {len(self.cases)} cases failed ({names}); the others are whole, {self.file} says "
                "why. Mend or remove these and start again with --resume True"
            )


def described(thing: object, depth: int = 6) -> str:
    """Settings as text: equal for objects made alike, in this process or another."""
    if thing is None or isinstance(thing, str | int | float | bool | torch.dtype | torch.device | Path):
        return str(thing)
    if isinstance(thing, dict):
        return "{" + ", ".join(f"{key}: {described(value, depth)}" for key, value in thing.items()) + "}"
    if isinstance(thing, list | tuple | set):
        return "[" + ", ".join(described(value, depth) for value in thing) + "]"
    if isinstance(thing, torch.nn.Module):
        return repr(thing)
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    return f"{name} {described(vars(thing), depth - 1)}" if depth and hasattr(thing, "__dict__") else name
