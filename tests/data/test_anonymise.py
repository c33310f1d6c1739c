"""Codes in place of names: the same in every report, one patient's scans together, and no name in them."""

import re

import pytest

from scripts.data.anonymise import case_code, patient_code, secret_word


@pytest.mark.parametrize(
    "code, wanted",
    [
        (patient_code("004"), "P1fbe705f"),
        (patient_code("004", "ours"), "Pcf4f9c5b"),
        (case_code("Case_004_Week12_LFOV", "004", "ours"), "Pcf4f9c5b-W12"),
        (case_code("prostate_01", "prostate_01"), "P74e20d04"),
        (case_code("prostate_01", "17"), "P1c31f47e-74e20d04"),
    ],
)
def test_codes_stay_what_they_are(code, wanted):
    """Reports of another year, machine or version must fit: a change of these is a break."""
    assert code == wanted


def test_no_two_patients_have_one_code():
    names = [f"{number:03d}" for number in range(1000)]
    assert len({patient_code(name) for name in names} | {patient_code(name, "ours") for name in names}) == 2000


@pytest.mark.parametrize("name, patient", [("Case_004_Week1", "004"), ("prostate_01", "prostate_01"), ("a", "b")])
def test_another_word_gives_other_codes(name, patient):
    codes = [case_code(name, patient, word) for word in ("", "ours", "Ours", "ours ", "ü")]
    assert len({code.split("-")[0] for code in codes}) == 5
    assert len({patient_code(patient, word * 100) for word in ("a", "b")}) == 2  # longer than a hash's key may be


@pytest.mark.parametrize(
    "name, end",
    [
        ("Case_004_Week0_LFOV.nii.gz", "-W0"),
        ("C004_Week12_SEMANTIC", "-W12"),
        ("case_004_week_007.nii", "-W7"),
        ("case_004_week_0_slice_7.nii.gz", "-W0-S7"),
        ("case_004_week_0_slice_*.nii.gz", "-W0"),
    ],
)
def test_weeks_are_kept(name, end):
    assert case_code(name, "004", "ours") == patient_code("004", "ours") + end


@pytest.mark.parametrize(
    "first, second, patient",
    [
        ("Case_004_Week0_LFOV.nii.gz", "Case_004_Week0_SEMANTIC_LFOV.nii.gz", "004"),
        ("scans/prostate_01.nii.gz", "prostate_01_seg.nii", "17"),
        ("prostate_01_0000", "prostate_01", "prostate_01"),
    ],
)
def test_image_and_label_map_share_a_code(first, second, patient):
    assert case_code(first, patient, "ours") == case_code(second, patient, "ours")


@pytest.mark.parametrize("names", [[f"Case_004_Week{w}" for w in range(9)], [f"visit_{letter}" for letter in "abcdef"]])
def test_scans_of_a_patient_share_its_part(names):
    codes = [case_code(name, "Smith", "ours") for name in names]
    assert len(set(codes)) == len(names)
    assert {code.split("-")[0] for code in codes} == {patient_code("Smith", "ours")}
    assert not {code.split("-")[0] for code in codes} & {case_code(n, "Jones", "ours").split("-")[0] for n in names}


def test_no_two_scans_of_a_patient_have_one_code():
    assert case_code("cmr153", "patient7") != case_code("cmr380", "patient7")  # these share four digits
    assert len({case_code(f"cmr{number}", "patient7") for number in range(1000)}) == 1000


def test_scans_whose_names_tell_another_patient_than_the_list_keep_apart():
    """Two names of one week that a list gives to one patient; the name that tells this patient needs no more."""
    names = ("Case_004_Week0", "Case_005_Week0")
    codes = [case_code(name, "A") for name in names]
    assert len(set(codes)) == 2 and all(code.startswith(f"{patient_code('A')}-W0-") for code in codes)
    assert case_code(names[0], "004") == f"{patient_code('004')}-W0"


def test_the_only_scan_needs_no_part_of_its_own():
    assert case_code("prostate_01.nii.gz", "prostate_01") == patient_code("prostate_01")


@pytest.mark.parametrize("word", ["", "ours"])
@pytest.mark.parametrize(
    "name, patient",
    [("Smith_1949.nii.gz", "Smith_1949"), ("Case_9174_Week3_LFOV", "9174"), ("visit_b", "Smith"), ("Müller", "Müller")],
)
def test_no_name_shows_in_a_code(name, patient, word):
    code = case_code(name, patient, word)
    assert re.fullmatch(r"P[0-9a-f]{8}(-W\d+|-[0-9a-f]{8})?", code)
    assert not any(part.lower() in code.lower() for part in re.findall(r"[^\W_]{2,}", f"{patient} {word}"))


@pytest.mark.parametrize(
    "anonymise, word",
    [(False, None), (None, None), (True, ""), ("", ""), ("x", "x"), (0, "0"), (12, "12"), ("012", "012"), (1, "1")],
)
def test_the_word_of_a_switch(anonymise, word):
    """Fire makes a number of a word of digits; 0 and 1 are such words, no switches."""
    assert secret_word(anonymise) == word
