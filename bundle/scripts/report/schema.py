"""What travels through the report: the record of a case, the summaries of all cases, and the report itself."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields

from scripts.core.errors import UserError


@dataclass
class CaseRecord:
    """All that a report knows of one case: plain text and numbers, which can be kept as JSON.

    Attributes:
        case: name of the case, or its code.
        patient: name of the patient, or a code; scans of one patient are not independent.
        week: week of the scan, or None where it is not known.
        measures: by class name a dictionary of `status` (scored, missed, false alarm, absent; without truth
            predicted or not found), of the values of `scripts.report.measures.MEASURES` and of the voxel counts.
        seconds: that the prediction took, or None where it was not made in this run.
        warnings: sentences of the plausibility checks.
        pictures: by class name ("" is all classes together) what `scripts.report.strips.Scan.strip` returns.
        prediction_file: label map that was scored, if it is a file.
        reference_file: true label map, if it is a file.
        coded: whether case and patient are codes in place of names.
        signs: by class name the signs of a good or bad result that need no truth, where several looks were taken.
        worse: signs and Dice of the case after it was made worse, by class name, for what is learned from them.
        expected: by class name what they let expect, see `scripts.doubt.model.Expected`.
        reliability: sums that say whether probabilities were right, where there is a truth.
    """

    case: str
    patient: str
    week: int | None
    measures: dict[str, dict]
    seconds: float | None = None
    warnings: list[str] = field(default_factory=list)
    pictures: dict[str, dict] = field(default_factory=dict)
    prediction_file: str | None = None
    reference_file: str | None = None
    coded: bool = False
    signs: dict[str, dict] = field(default_factory=dict)
    worse: list[dict] = field(default_factory=list)
    expected: dict[str, dict] = field(default_factory=dict)
    reliability: dict | None = None

    def status(self, name: str) -> str | None:
        """What became of a class in this case; None where the class is not known."""
        return self.measures.get(name, {}).get("status")

    def to_dict(self) -> dict:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict, source: object, class_names: Sequence[str]) -> "CaseRecord":
        """The record from what `to_dict` gave.

        Args:
            content: as read from JSON.
            source: name of the file, for the error.
            class_names: names of the values 0, 1, ...; the record must have measures of each but the background.

        Raises:
            UserError: the content is not the record of a case of this version of the bundle.
        """
        known = {one.name for one in fields(cls)}
        if content.keys() != known:
            raise UserError(
                f"{source}: found the keys {sorted(content)}, expected those of a case's record, {sorted(known)}; "
                "delete this file and evaluate the case again"
            )
        measures = content["measures"]
        if not isinstance(measures, dict) or list(measures) != list(class_names[1:]):
            raise UserError(
                f"{source}: found measures of {list(measures or ())}, expected {list(class_names[1:])}; delete this "
                "file and evaluate the case again"
            )
        return cls(**content)


@dataclass
class Statistics:
    """Statistics of one measure of one class. What is not defined is NaN, or None for intervals and the worst case.

    Attributes:
        n: cases in which the measure is defined.
        mean: over these cases.
        sd: standard deviation over these cases.
        median: over these cases.
        min: lowest value.
        max: highest value.
        patients: patients of these cases.
        worst: `case` and `value` of the worst case.
        ci: 95 % interval of the mean that draws whole patients.
        ci_naive: 95 % interval as if scans were independent, where some patient has several scans.
    """

    n: int
    mean: float
    sd: float
    median: float
    min: float
    max: float
    patients: int
    worst: dict | None
    ci: list[float] | None = None
    ci_naive: list[float] | None = None


@dataclass
class ClassSummary:
    """One class over all cases.

    Attributes:
        cases: all cases.
        n: cases that count: in the truth, or without truth predicted.
        missed: in the truth and not predicted.
        absent: neither in the truth nor predicted.
        false_alarms: predicted and not in the truth.
        false_alarm_ml: their volume in millilitres, all together.
        measures: statistics by name of the measure.
    """

    cases: int
    n: int
    missed: int
    absent: int
    false_alarms: int
    false_alarm_ml: float
    measures: dict[str, Statistics]


@dataclass
class PatientSummary:
    """The Dice of one patient's scans.

    Attributes:
        scans: number of scans.
        missed: missed structures, in all classes together.
        absent: absent structures, in all classes together.
        foreground: mean over the classes of each one's mean over the scans.
        sd: standard deviation of the scans, each the mean of its classes.
        median: of the scans, each the mean of its classes.
        worst: `case` and `value` of the worst scan.
        classes: by class name missed, absent, n, mean, sd, median and worst.
    """

    scans: int
    missed: int
    absent: int
    foreground: float
    sd: float
    median: float
    worst: dict | None
    classes: dict[str, dict]


@dataclass
class WorstResult:
    """The class of a case with the lowest Dice of all, which a reader should look at first.

    Attributes:
        case: name of the case.
        class_name: name of the class.
        value: its Dice.
        status: scored or missed.
        note: sentences on volume and distance.
        plane: of the slice that shows it, or None where there are no pictures.
        slice: number of that slice, from 0.
        axis: axis of the file's array that the slice is cut across, from 0.
    """

    case: str
    class_name: str
    value: float
    status: str
    note: str
    plane: str | None = None
    slice: int | None = None
    axis: int | None = None

    def to_dict(self) -> dict:
        """As `metrics.json` holds it."""
        return {"class" if key == "class_name" else key: value for key, value in asdict(self).items()}


@dataclass
class Summary:
    """All statistics of an evaluation.

    Attributes:
        classes: by class name.
        foreground: Dice as the mean over the classes; None without truth.
        worst: what to look at first; None without truth.
        patients: by name of the patient; empty without truth.
    """

    classes: dict[str, ClassSummary]
    foreground: Statistics | None = None
    worst: WorstResult | None = None
    patients: dict[str, PatientSummary] = field(default_factory=dict)


@dataclass
class Motion:
    """How organs moved between the scans of a patient, relative to the bones.

    Attributes:
        rows: patient, scan, organ; change of the volume in percent, shift towards left, back and head, largest distance
            of the surfaces, residual of the bones, all in mm and None where not known; a note.
        problems: a line for every scan that could not be compared.
    """

    rows: list[tuple[str, str, str, list, str]]
    problems: list[str] = field(default_factory=list)


@dataclass
class Report:
    """All that the page of a report says.

    Attributes:
        title: of the page.
        has_truth: whether there is a truth to score against; without it the report is on volumes and warnings.
        about: pairs of a label and a text that say what was evaluated.
        class_names: names of the values 0, 1, ...
        tolerance_mm: of the surface Dice.
        cases: records of all cases, in the order of the page.
        summary: their statistics.
        problems: a line for every file that was left out, or one for all where names are not shown.
        hidden: number of files that one line stands for; 0 where each has its own.
        rules: sentences on how measures are counted.
        limits: sentences on what the report can't say.
        history: rows of the training's `history.csv`, or None.
        motion: of organs between the scans of a patient, or None where it was not measured.
        views: addresses of the pages of cases, relative to the report, by the name of the case.
        looks: what the looks at an image differed in, or "" where only one was taken.
        temperature: of the probabilities of the looks.
        reliability: sums over all cases that say whether these were right, or None.
    """

    title: str
    has_truth: bool
    about: list[list[str]]
    class_names: list[str]
    tolerance_mm: float
    cases: list[CaseRecord]
    summary: Summary
    problems: list[str] = field(default_factory=list)
    hidden: int = 0
    rules: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    history: list[dict] | None = None
    motion: Motion | None = None
    views: dict[str, str] = field(default_factory=dict)
    looks: str = ""
    temperature: float = 1.0
    reliability: dict | None = None

    @property
    def left_out(self) -> int:
        """How many files were left out."""
        return self.hidden or len(self.problems)
