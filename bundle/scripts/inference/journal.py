"""`run.json`: the record of an inference or evaluation, with what became of every case.

Every process adds a line to a file of its own, in the folder `.run`, as soon as a case is done. From these lines the
main process makes `run.json`: after every case up to a hundred, later whenever there are a tenth more, and at the end.
So the work for a case stays the same, however many there are; and whatever kills a process, the lines of all finished
cases are on disk. The next run with `resume` reads both and skips the cases that are finished.

The writer, the scorer, `skipping.py` and `submission.py` use it.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from scripts.core.describe import settings_text
from scripts.core.errors import UserError
from scripts.core.files import explain_full_disk, read_json, write_json
from scripts.core.processes import is_main_process, number_and_count, sum_of_all, wait_for_all
from scripts.data.anonymise import case_code, secret_word
from scripts.data.digests import sha256_of_files
from scripts.data.names import case_name, scan_key
from scripts.data.slices import scan_exists

logger = logging.getLogger(__name__)

DONE, FAILED = "done", "failed"
RECORD = "record"  # key of a line: what the report says of the case; `run.json` is without it
EARLIER = "earlier"  # key of a case that has failed: the facts of the result that an earlier run has made
FEW, GROWTH = 100, 1.1  # up to FEW cases `run.json` is written after each; then the list grows by this factor between


class Journal:
    """Records which cases are done and which have failed. If any has failed, the exit status of the command is 1.

    Args:
        output_dir: folder of `run.json` and of the results. All processes must see the same folder.
        weights: file, or files, of the network's weights.
        settings: everything else that a result depends on: transforms, network, numbers. They are compared as text.
        anonymise: True or a secret word: write codes in place of names.
        resume: skip the cases that are recorded as done, if input, weights and settings are the same and the result
            still exists.
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
        self.parts = Path(output_dir) / ".run"
        self.weights, self.settings, self.resume = weights, settings, resume
        self.word = secret_word(anonymise)
        self.cases: dict[str, dict] = {}
        self.earlier: dict[str, dict] = {}
        self.is_main, self.failed = True, 0
        self.lines: TextIO

    def __getstate__(self) -> dict:
        """For processes that read images: they ask what is done, and write nothing."""
        return {name: value for name, value in self.__dict__.items() if name not in ("lines", "settings")}

    def begin(self) -> None:
        """Reads the record of an earlier run if `resume` is set, else clears it. The weights must exist by now."""
        self.made_with = {
            "weights": sha256_of_files(self.weights),
            "settings": hashlib.sha256(settings_text(self.settings).encode()).hexdigest(),
        }
        self.is_main = is_main_process()
        self.number, self.count = number_and_count()
        if self.is_main:
            self.begin_file()
        wait_for_all()
        cases = read_json(self.file)["cases"]
        known = {case["image"]: case if case["fate"] == DONE else case.get(EARLIER) for case in cases}
        self.earlier = {image: facts for image, facts in known.items() if facts}

    def open(self) -> None:
        """Starts the record of this run, after `begin`."""
        self.cases, self.due = {}, 1.0
        self.parts.mkdir(exist_ok=True)
        self.lines = self.part(self.number).open("w", encoding="utf-8")
        wait_for_all()
        if self.is_main:
            self.refuse_separate_folders()

    def begin_file(self) -> None:
        """Writes a `run.json` without cases, or with those of the run that is resumed; the lines are then in it."""
        kept: dict[str, dict] = {}
        if self.resume and self.file.is_file():
            content = read_json(self.file)
            if content.get("made_with") == self.made_with:
                kept = by_image([*content["cases"], *read_lines(self.parts.glob("*.jsonl"))])
            else:
                logger.info(f"{self.file}: made with other weights or settings; every case is done again")
        elif self.resume:
            logger.info(f"nothing to resume: no {self.file}, every case is done")
        if not kept:  # before anything else: lines must never stand beside a file of other weights
            shutil.rmtree(self.parts, ignore_errors=True)
        self.write(kept)
        shutil.rmtree(self.parts, ignore_errors=True)

    def part(self, number: int) -> Path:
        """The file of a process."""
        return self.parts / f"{number}.jsonl"

    def refuse_separate_folders(self) -> None:
        missing = [number for number in range(self.count) if not self.part(number).is_file()]
        if missing:
            raise UserError(
                f"{self.parts}: found no file of process {missing[0]}, expected those of all {self.count}; give an "
                "--output_dir on a disk that all machines share"
            )

    def public_name(self, image: str) -> str:
        """Returns the name of a case in the record: the path of its image, or its code."""
        return image if self.word is None else case_code(case_name(image), scan_key(image)[0], self.word)

    def shown_name(self, image: str) -> str:
        """Returns the name of a case in the names of its files: that of its image, or its code."""
        return case_name(image) if self.word is None else self.public_name(image)

    def is_done(self, image: str, input_digest: str) -> bool:
        """Returns whether an earlier run has made the result from the same input, in the same way."""
        case = self.earlier.get(self.public_name(image))
        if not case or case["digest"] != input_digest or not scan_exists(file := self.file.parent / case["output"]):
            return False
        return "output_digest" not in case or case["output_digest"] == sha256_of_files(file)

    def earlier_facts(self, image: str) -> dict:
        """What `run.json` says of a case that an earlier run has finished."""
        return self.earlier[self.public_name(image)]

    def earlier_result(self, image: str) -> Path:
        """Returns the file of the result that an earlier run has made."""
        return self.file.parent / self.earlier_facts(image)["output"]

    def result(self, image: str) -> Path | None:
        """Returns the file of a result that this run knows, or None if there is none."""
        output = self.cases.get(self.public_name(image), {}).get("output")
        return self.file.parent / output if output else None

    def record_done(
        self,
        image: str,
        input_digest: str,
        output: str,
        seconds: float,
        sealed: bool = False,
        record: dict | None = None,
        said: dict | None = None,
    ) -> bool:
        """Records a result. Returns whether `run.json` was brought up to date.

        Args:
            image: path of the image.
            input_digest: sha256 of the image, and of the label where there is one.
            output: name of the result's file in the output folder.
            seconds: that it took.
            sealed: whether the result is valid only as long as its file does not change; others may be edited.
            record: what the report says of the case.
            said: what of it can't be found out from the result, so that it is kept in `run.json` as well.
        """
        facts = {"fate": DONE, "digest": input_digest, "output": output, "seconds": round(seconds, 3), **(said or {})}
        seal = {"output_digest": sha256_of_files(self.file.parent / output)} if sealed else {}
        return self.record(image, {**facts, **seal, RECORD: record})

    def record_kept(self, image: str, record: dict | None = None, said: dict | None = None) -> bool:
        """Records that the result of an earlier run stands. Returns whether `run.json` was brought up to date.

        Args:
            image: path of the image.
            record: what the report says of the case.
            said: what of that which `run.json` keeps has changed.
        """
        return self.record(image, {**self.earlier_facts(image), **(said or {}), RECORD: record})

    def record_failure(self, image: str, reason: str) -> None:
        """Records and logs that a case has failed. The result of an earlier run still stands, if others may edit it: a
        person may have corrected it, so the next run keeps it where the case can be read again."""
        if self.word is not None:  # a path may contain a patient's name
            for known in (image, *map(str, Path(image).parents), Path(image).name, case_name(image)):
                reason = reason.replace(known, "(a file)") if len(known) > 1 else reason
            place, mark, rest = reason.partition(": ")
            reason = f"(a file): {rest}" if mark and "/" in place else reason
            named = ("/", ".nii", ".series", ".png", ".tif", ".dcm")
            reason = " ".join("(a file)" if any(n in part for n in named) else part for part in reason.split())
        shown = self.public_name(image)
        logger.warning(f"{reason if reason.startswith(shown) else f'{shown}: {reason}'}; skipped")
        earlier = self.earlier.get(shown, {})
        stands = earlier and "output_digest" not in earlier
        self.record(image, {"fate": FAILED, "reason": reason, **({EARLIER: earlier} if stands else {})})

    def record(self, image: str, facts: dict) -> bool:
        case = {"image": self.public_name(image), **facts}
        self.cases[case["image"]] = case
        with explain_full_disk(self.part(self.number)):
            print(json.dumps(case), file=self.lines, flush=True)
            os.fsync(self.lines.fileno())
        if not self.is_main or len(self.cases) < self.due:
            return False
        self.bring_up_to_date()
        return True

    def bring_up_to_date(self) -> None:
        """Writes `run.json` with what is known by now: the cases of all processes, and what is still to be looked at of
        an earlier run."""
        if self.count > 1:
            self.cases = self.read_parts()
        count = len(self.cases)
        self.due = count + 1 if count < FEW else GROWTH * count
        self.write(self.earlier | self.cases)

    def read_parts(self) -> dict[str, dict]:
        return by_image(read_lines(map(self.part, range(self.count))))

    def finish(self) -> bool:
        """Ends the record once all processes are done. Returns whether this is the main process, which has them all."""
        self.lines.close()
        self.failed = sum_of_all(len(self.failures()))
        if self.is_main:
            self.cases = self.read_parts()
            self.write(self.cases)
            shutil.rmtree(self.parts, ignore_errors=True)
        return self.is_main

    def write(self, cases: dict[str, dict]) -> None:
        content: dict = {"date": time.strftime("%Y-%m-%d %H:%M %Z"), "made_with": self.made_with}
        content["cases"] = [without_record(cases[image]) for image in sorted(cases)]
        write_json(content, self.file)

    def records(self) -> list[dict]:
        """What the report says of each finished case, in the order of `run.json`."""
        return [self.cases[image][RECORD] for image in sorted(self.cases) if self.cases[image]["fate"] == DONE]

    def has_failed(self, image: str) -> bool:
        return self.cases.get(self.public_name(image), {}).get("fate") == FAILED

    def failures(self) -> list[str]:
        found = [self.cases[image] for image in sorted(self.cases)]
        return [f"{case['image']}: {case['reason']}" for case in found if case["fate"] == FAILED]

    def exit_with_status(self) -> None:
        """Ends the command with exit status 1 if a case has failed. This is the last step of a run.

        All processes end alike, since a launcher waits minutes for other machines where only some have failed.

        Raises:
            UserError: how many cases have failed. It is raised in the main process, which knows all of them.
        """
        if self.failed and not self.is_main:
            raise SystemExit(1)
        failed = [case for case in self.cases.values() if case["fate"] == FAILED]
        if failed:
            names = ", ".join(Path(case["image"]).name for case in failed[:3]) + (", ..." if len(failed) > 3 else "")
            raise UserError(
                f"{len(failed)} of {len(self.cases)} cases failed ({names}); the others are complete. {self.file} has "
                "the reasons; fix or remove these cases and start again with --resume True"
            )


def without_record(case: dict) -> dict:
    return {key: value for key, value in case.items() if key != RECORD}


def by_image(cases: Iterable[dict]) -> dict[str, dict]:
    """The cases by the name of the image; of several lines on one case, the last one counts."""
    return {case["image"]: case for case in cases}


def read_lines(files: Iterable[Path]) -> Iterator[dict]:
    """The cases in the files of processes. The last line of one that was killed may be incomplete; it is left out."""
    for file in sorted(files):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                case = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(case, dict) and "fate" in case:
                yield case
