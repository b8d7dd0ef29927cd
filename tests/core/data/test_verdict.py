"""The verdict and what was measured, in two files."""

from stages.core.data.verdict import MEASURED, VERDICT, read_verdict, write_verdict

REPORT = {
    "verdict": "fine-tune",
    "costs": {"training": 1.0},
    "arms": {
        "tuned": {"accuracy": {"value": 0.9}, "seconds_per_request": 0.5},
        "nearest": {"accuracy": {"value": 0.2}},
    },
    "choices": {"few_shot": {"shots": 2, "seconds": 3.0}, "constrained": {"reason": "too many"}},
    "looks": {"place": 1, "count": 2, "sentence": "2 by now"},
    "lineage": {"model_sha256": "a", "git_commit": "b"},
}


def test_the_same_answers_give_the_same_file_whatever_they_took(workspace):
    write_verdict(REPORT)
    before = VERDICT.read_bytes()
    assert read_verdict() == REPORT
    slower = REPORT | {"costs": {"training": 2.0}, "looks": REPORT["looks"] | {"count": 9}}
    write_verdict(slower)
    assert VERDICT.read_bytes() == before and read_verdict() == slower
    assert b"seconds" not in before and b"git_commit" not in before and b"seconds" in MEASURED.read_bytes()
