"""The verdict and what was measured, in two files."""

import pytest

from stages.core.data.verdict import MEASURED, VERDICT, read_verdict, write_verdict
from stages.core.storage.files import read_json, sha256_json


def estimate(value):
    return {"value": value, "ci_low": value - 0.1, "ci_high": value + 0.1}


REPORT = {
    "verdict": "fine-tune",
    "recommended_arm": "tuned",
    "answer": "Yes.",
    "reasons": ["It is better."],
    "primary_metric": "accuracy",
    "comparisons": [],
    "margin": 0.02,
    "confidence": 0.95,
    "bound_confidence": 0.975,
    "rows": 300,
    "split": "test",
    "forgetting": None,
    "costs": {"training": 1.0},
    "arms": {
        "tuned": {"accuracy": estimate(0.9), "seconds_per_request": 0.5},
        "nearest": {"accuracy": estimate(0.2)},
    },
    "choices": {"few_shot": {"shots": 2, "seconds": 3.0}, "constrained": {"reason": "too many"}},
    "looks": {"place": 1, "count": 2, "confidence": 0.95, "sentence": "2 by now"},
    "lineage": {"model_sha256": "a", "dtype": "float32", "git_commit": "b"},
}


def test_the_same_answers_give_the_same_file_whatever_they_took(workspace):
    write_verdict(REPORT)
    before = VERDICT.read_bytes()
    digest = {"verdict_sha256": sha256_json(read_json(VERDICT))}
    assert read_verdict() == REPORT | digest
    slower = REPORT | {"costs": {"training": 2.0}, "looks": REPORT["looks"] | {"count": 9}}
    write_verdict(slower)
    assert VERDICT.read_bytes() == before and read_verdict() == slower | digest
    assert (
        b"seconds" not in before
        and b"git_commit" not in before
        and b"seconds" in MEASURED.read_bytes()
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"verdict": "maybe"}, r"\$\.verdict: 'maybe' is not one of"),
        (
            {"arms": {"tuned": {"accuracy": {"value": 0.9}}}},
            r"\$\.arms\.tuned\.accuracy: 'ci_low' is a req",
        ),
        ({"margins": 0.02}, "'margins' was unexpected"),
    ],
)
def test_a_report_that_does_not_follow_the_schema_is_not_written(workspace, change, said):
    with pytest.raises(ValueError, match=said):
        write_verdict(REPORT | change)
    assert not VERDICT.exists() and not MEASURED.exists()
