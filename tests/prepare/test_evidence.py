import json

import pytest

from stages.prepare.__main__ import main
from stages.prepare.evidence import plan
from tests.conftest import TINY, compose_config
from tests.prepare.rows import write

STRICT = ("checks.min_test_rows=50", "checks.max_target_fraction=0.3")


def prepare(workspace, targets, *overrides):
    write(
        workspace / "rows.jsonl",
        *({"prompt": f"question {n}", "completion": t} for n, t in enumerate(targets)),
    )
    main(compose_config(*TINY, *STRICT, *overrides))
    lines = (workspace / "data/prepared/findings.jsonl").read_text().splitlines()
    return {finding["code"]: finding for finding in map(json.loads, lines)}


@pytest.mark.parametrize(
    ("common", "rest", "metric"),
    [
        ("No entities found", "[Bank - ORGANIZATION]", "entity_f1"),
        ("billing", "other", "macro_f1"),
    ],
)
def test_a_target_that_rewards_silence_is_found_with_the_metric_that_does_not(
    workspace, common, rest, metric
):
    targets = [common if n % 3 else rest for n in range(400)]
    found = prepare(workspace, targets)["frequent_target"]
    assert common in found["found"] and "exact_match" in found["found"] and metric in found["todo"]
    options = f"evaluate.metrics=[exact_match,{metric}]", f"evaluate.primary_metric={metric}"
    assert "frequent_target" not in prepare(workspace, targets, *options)


def test_of_two_answers_that_are_equally_frequent_none_stands_out(workspace):
    assert "frequent_target" not in prepare(
        workspace, ["yes" if n % 2 else "no" for n in range(400)]
    )


def test_few_test_rows_are_said_before_anything_is_computed(workspace):
    found = prepare(workspace, [f"answer {n}" for n in range(60)])
    assert (
        "not-enough-evidence" in found["few_test_rows"]["todo"] and "frequent_target" not in found
    )


def test_the_plan_says_what_the_rows_can_show(config):
    sentence = plan(config(), 301)
    assert (
        "With 301 test rows" in sentence
        and "a gain of 0.064" in sentence
        and "a gain of 0.097" in sentence
    )
