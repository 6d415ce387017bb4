"""The page of bad inputs is whole: every one has a row, and every row is one that a test checks."""

from collections import Counter

from tests.simulated.documented import KINDS, PAGE, REMEDY, declared, page, rows


def test_each_of_the_hundred_bad_inputs_has_a_row() -> None:
    listed = Counter(number for numbers in KINDS.values() for number in numbers)

    assert listed == Counter(range(1, 101))
    assert set(declared().values()) == set(range(1, 101))


def test_the_page_has_the_rows_of_the_tests_and_no_other() -> None:
    assert len(rows()) == len(declared()), REMEDY
    assert PAGE.read_text("utf-8") == page(rows()), REMEDY
