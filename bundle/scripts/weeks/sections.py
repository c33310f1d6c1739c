"""The page on the weeks, section by section."""

from collections.abc import Iterator
from statistics import median

from scripts.core.palette import colour
from scripts.report.blocks import Box, Charts, Items, Legend, Page, Pairs, Section, Text, present
from scripts.report.figures import figure
from scripts.report.tables import DASH, ML, Table, long_table, number, volume
from scripts.weeks import charts
from scripts.weeks.compare import Weeks
from scripts.weeks.motion import MOST_RESIDUAL_MM, OrganMotion
from scripts.weeks.population import AXES, FEW

MM = 1  # decimals of a distance
DRAWN = 60  # patients at most that have a chart
ROUGH = f"Σ, σ and the margin are rough with fewer than about {FEW}. They may be far off."
MEANING = (
    "All scans of a patient are laid onto the first one by the bones: a rigid motion of six degrees of freedom. What "
    "is left is the motion of the organs relative to bone, along the axes of the first scan.",
    "Shift: of the centroid. Positive is towards the patient's left, back and head, as in DICOM.",
    "Largest: the largest distance from any point of one surface to the other surface, in either direction (the "
    "Hausdorff distance). 95 %: the 95th percentile of these distances, of the direction in which it is larger.",
    "Outside +5 and +10 mm: the share of the organ's volume in this scan that lies outside the contour of the first "
    "scan grown by 5 or 10 mm in all directions.",
    "Largest, 95 % and outside are not known (–) of an organ of which more than a tenth is thinner than two or three "
    "voxels, as no surface is found there.",
    "An organ that touches the border of the volume may be cut off. Its row says so, and it is left out of the figures "
    "of all patients.",
    "Residual: the mean distance between the two surfaces of the bones once they are registered, of the points that "
    f"have a counterpart (matched). A scan with more than {MOST_RESIDUAL_MM:g} mm is left out.",
)
RECIPE = (
    "M: the mean of the patients' means. Σ, the systematic error: the standard deviation of the patients' means. σ, "
    "the random error: the root of the mean square of the standard deviations of the patients with three scans or "
    "more. Margin: 2.5 Σ + 0.7 σ (van Herk et al. 2000).",
    "The recipe asks for a minimum dose to the CTV of 95 % in 90 % of the patients. It assumes many patients, many "
    "fractions, errors with a normal distribution, and shifts only: no rotation and no change of shape.",
    "The first scan stands for the planning scan. Its own chance position is part of M and Σ, which are not corrected "
    "for it.",
    "The shifts are relative to bone: the figures hold where patients are set up by their bones. Motion within a "
    "fraction and differences between observers are not in them.",
    "The error of the segmentation itself is in every figure and makes Σ and σ larger, or hides what moved.",
)
LIMITS = (
    "Research use only: not a medical device, not for diagnosis, treatment or any clinical decision. No margin on this "
    "page is one to treat with.",
    "The figures are as good as the label maps. Look at the maps before you believe a large shift.",
    "Whatever belongs to the class of the bones is used. Where the legs lie differently, the points of the thighs lose "
    "their weight.",
)


def weeks_page(weeks: Weeks) -> Page:
    makers = (summary, patients, shifts, bones, about, meaning, limits)
    return Page("Motion of the organs over the weeks", headline(weeks), present(make(weeks) for make in makers))


def headline(weeks: Weeks) -> list[tuple[str, str, str]]:
    residuals = [scan.bones.residual_mm for patient in weeks.patients for scan in patient.scans if scan.bones]
    return [
        ("Patients", str(len(weeks.patients)), f"with two scans or more; {len(weeks.single)} with one"),
        ("Scans compared", str(len(residuals)), "with the first scan of their patient"),
        ("Residual at the bones", f"{number(median(residuals), 2)} mm" if residuals else DASH, "median of the scans"),
        ("Files left out", str(len(weeks.problems)), "could not be compared"),
    ]


def summary(weeks: Weeks) -> Section:
    """The figures of all patients, with the warning that they need many."""
    count, problems = len(weeks.patients), Box("Files left out", [Items(weeks.shown_problems)], "problem")
    fewest = min((found.patients for axes in weeks.population.values() for found in axes.values()), default=count)
    words = few_words(count) if count < FEW else f"{ROUGH} Look at the number of patients of every organ."
    warning = Box("Too few patients", [Text(words)], "problem") if fewest < FEW else None
    blocks = [problems if weeks.problems else None, warning, population_table(weeks), Items(list(RECIPE))]
    return Section("summary", "", "All patients", present(blocks))


def few_words(count: int) -> str:
    patients = f"{count} patient{'s' * (count != 1)} with two scans or more: "
    if count < 2:
        return patients + "there is no systematic error and no margin to compute."
    return patients + ROUGH


def population_table(weeks: Weeks) -> Table:
    groups = []
    for organ, axes in weeks.population.items():
        rows = []
        for axis, found in axes.items():
            sizes = [found.mean_mm, found.systematic_mm, found.random_mm, found.margin_mm]
            counts = [str(found.patients), str(found.scans)]
            rows.append([AXES[axis], *counts, *(number(size, MM) for size in sizes)])
        groups.append((organ, rows))
    head = ["Axis", "Patients", "Scans", "M (mm)", "Σ (mm)", "σ (mm)", "2.5 Σ + 0.7 σ (mm)"]
    return Table("Shift of every organ relative to bone, over all patients", head, groups)


def patients(weeks: Weeks) -> Section | None:
    if not weeks.patients:
        return None
    hues = {organ: colour(weeks.class_names.index(organ)) for organ in weeks.organs}
    reach = charts.common_reach(weeks.patients)
    drawn = []
    for patient in weeks.patients[:DRAWN]:
        alt = f"Patient {patient.patient}: shift and volume of {', '.join(weeks.organs)} in {len(patient.scans)} scans"
        drawn.append(figure(charts.chart(patient, hues, reach), alt, f"Patient {patient.patient}"))
    note = (
        "Shift of the centroid relative to bone, against the first scan: positive is towards the patient's left, back "
    )
    note += "and head. Below it the volume. An axis of shifts is the same for all patients. "
    if len(weeks.patients) > DRAWN:
        note += f"The first {DRAWN} patients; the others are in weeks.csv."
    blocks = [Legend("Organs", list(hues.items())), Charts(note, drawn)]
    return Section("patients", "Every patient", "Patients", blocks)


def organ_rows(weeks: Weeks) -> Iterator[tuple[str, str, str, OrganMotion, str]]:
    """Patient, scan, organ, what was measured of it, and a note."""
    for patient in weeks.patients:
        for scan in patient.scans:
            for organ, found in scan.organs.items():
                reference = "the reference" if scan.bones is None else ""
                yield patient.patient, scan.name, organ, found, "; ".join(filter(None, (reference, found.note)))


def shifts(weeks: Weeks) -> Section:
    rows = []
    for patient, scan, organ, found, note in organ_rows(weeks):
        grown = [number(100 * share, 0) for share in found.outside.values()] or [DASH, DASH]
        shift = [number(found.left_mm, MM), number(found.back_mm, MM), number(found.head_mm, MM)]
        sizes = [volume(found.volume_ml), number(found.change_ml, ML), number(found.change_percent, 0)]
        surface = [number(found.surface_max_mm, MM), number(found.surface_p95_mm, MM)]
        rows.append([patient, scan, organ, *sizes, *shift, *surface, *grown, note])
    head = ["Patient", "Scan", "Organ", "Volume (ml)", "Change (ml)", "Change (%)", "Left (mm)", "Back (mm)"]
    head += ["Head (mm)", "Largest (mm)", "95 % (mm)", "Outside +5 mm (%)", "Outside +10 mm (%)", "Note"]
    table = long_table("Every organ in every scan, relative to bone", head, rows, text=(0, 1, 2, 13), file="weeks.json")
    single = Text(f"{', '.join(weeks.single)}.", "One scan, nothing to compare: ") if weeks.single else None
    return Section("shifts", "Every organ in every scan", "Organs", present([table, single]))


def bones(weeks: Weeks) -> Section:
    rows = []
    for patient in weeks.patients:
        for scan in patient.scans:
            found = scan.bones
            if found is None:  # the first scan
                continue
            shift = [number(size, MM) for size in (found.left_mm, found.back_mm, found.head_mm)]
            turn = [number(size, MM) for size in (found.pitch_deg, found.yaw_deg, found.roll_deg)]
            fit = [number(found.residual_mm, 2), number(100 * found.matched, 0)]
            rows.append([patient.patient, scan.name, *shift, *turn, *fit])
    head = ["Patient", "Scan", "Left (mm)", "Back (mm)", "Head (mm)", "Pitch (°)", "Yaw (°)", "Roll (°)"]
    head += ["Residual (mm)", "Matched (%)"]
    note = (
        "Where the bones lie, against the first scan: how the patient was put on the table. The shift is that of the "
    )
    note += "middle of the bones. Pitch, yaw and roll turn about the axes towards left, back and head, as a screw that "
    note += "moves that way."
    table = long_table("Bones in every scan", head, rows, text=(0, 1), file="weeks.json")
    return Section("bones", "The bones", "Bones", [Text(note), table])


def about(weeks: Weeks) -> Section:
    return Section("about", "What was compared", "About", [Pairs(weeks.about)])


def meaning(weeks: Weeks) -> Section:
    return Section("meaning", "What the figures mean", "Meaning", [Items(list(MEANING))])


def limits(weeks: Weeks) -> Section:
    return Section("limits", "Limits", "Limits", [Items(list(LIMITS))])
