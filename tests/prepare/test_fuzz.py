from collections import Counter

import pytest

from benchmarks.fuzz import run
from benchmarks.fuzz_targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_what_must_hold_of_any_file_row_and_chat_holds(name):
    tried = Counter()
    error = run(name, None, 25, tried)
    if error:
        raise error
    assert tried[name] >= 25


def test_a_target_that_fails_is_reported_with_its_example(monkeypatch):
    def check(*drawn):
        raise RecursionError("too deep")

    monkeypatch.setitem(TARGETS, "rows", (check, TARGETS["rows"][1]))
    error = run("rows", None, 5, Counter())
    assert isinstance(error, RecursionError) and "drawn=" in "".join(error.__notes__)
