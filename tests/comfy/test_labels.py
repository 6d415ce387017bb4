"""What people found in real graphs, against what discovery finds in them."""

from pathlib import Path

import pytest

from benchmarks.discovery import ROLES, expected, found_in, labelled, mixed_up

CASES = Path(__file__).parents[3] / "shared" / "workflow-conversion" / "cases"

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the recorded cases are not here")


def test_labels_are_found_and_positive_and_negative_never_exchanged() -> None:
    there = right = 0
    exchanged = []
    for name, file, info, label in labelled(CASES):
        wanted, found = expected(label), found_in(file, info)
        if mixed_up(found, wanted):
            exchanged.append(name)
        for role in ROLES:
            if role not in label.get("unsure", ()) and (wanted[role] or found[role]):
                there += 1
                right += found[role] == wanted[role]

    assert exchanged == []
    assert there > 1000
    assert right / there > 0.97
