import functools
import json

import pytest

from stages.core.metrics.library import evaluate
from stages.core.metrics.metrics import METRICS_FOLDER, Metrics


@functools.cache
def metric(name):
    return evaluate.load(str(METRICS_FOLDER / name / f"{name}.py"))


def rows(name, *pairs, **options):
    predictions, references = zip(*pairs, strict=True)
    return metric(name).compute(predictions=predictions, references=references, **options)["rows"]


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [
        ('{"b": 2, "a": 1}', '{"a":1,"b":2}', True),
        ('```json\n{"a": [1, 2]}\n```', '{"a": [1, 2]}', True),
        ('Sure [1]: {"a": "}"} {"b": 2}', '{"a": "}"}', True),  # the first object
        ('{no} {"a": 1}', '{"a": 1}', True),
        ('Here: [{"a": 1}, {"a": 2}].', '[{"a": 1}, {"a": 2}]', True),
        ("```\n[1, 2]\n```", "[1, 2]", True),
        ("null", "null", True),
        ('{"a": 1.0, "b": 1e2}', '{"a": 1, "b": 100}', True),
        ('{"a": 12345678901234567890}', '{"a": 12345678901234567891}', False),
        ('{"a": true}', '{"a": 1}', False),
        ('{"a": NaN}', '{"a": null}', False),
        ('{"a": [2, 1]}', '{"a": [1, 2]}', False),
        ('{"a": 1', '{"a": 1}', False),
        ("none", "null", False),
        ("text", '"text"', False),
        ("[" * 100_000, "[]", False),
        ('{"a":' * 3_000 + "1" + "}" * 3_000, "{}", False),
    ],
)
def test_json_match_by_hand(prediction, reference, right):
    assert rows("json_match", (prediction, reference)) == [[right, 1]]


@pytest.mark.parametrize(
    ("prediction", "reference", "row"),
    [
        ({"a": 1, "b": {"c": "x"}}, {"a": 1, "b": {"c": "x"}}, [4, 4]),
        ({"a": 1, "b": {"c": "y"}}, {"a": 1, "b": {"c": "x"}}, [2, 4]),
        ({"a": 1}, {"a": 1, "b": None}, [2, 3]),
        ({"l": [1, 1, 2]}, {"l": [2, 1]}, [4, 5]),  # without positions, each as often as it occurs
        ({"l": [{"n": "x"}]}, {"l": {"n": "x"}}, [2, 2]),
        ({"l": []}, {"l": {}}, [0, 2]),
        ({"a.b": 1}, {"a": {"b": 1}}, [0, 2]),
        ({"a": True}, {"a": 1}, [0, 2]),
        ({}, {}, [0, 0]),
        ([], {"a": 1}, [0, 1]),
        ("text", {"a": 1}, [0, 2]),
    ],
)
def test_json_f1_by_hand(prediction, reference, row):
    assert rows("json_f1", (json.dumps(prediction), json.dumps(reference))) == [row]


def test_json_f1_is_micro_averaged():
    pairs = [('{"a": 1, "b": 2}', '{"a": 1}'), ("what?", '{"c": 3, "d": 4}')]
    found = metric("json_f1").compute(
        predictions=[p for p, _ in pairs], references=[r for _, r in pairs]
    )
    assert found["json_f1"] == pytest.approx(2 / 5)


def test_what_the_schema_refuses_is_wrong(tmp_path):
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/n"}},
        "$defs": {"n": {"type": "integer"}},
    }
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    pairs = [('{"a": 1}', '{"a": 1}'), ('{"a": "x"}', '{"a": "x"}'), ("[]", "[]")]
    for given in (schema, str(path)):
        assert rows("json_match", *pairs, schema=given) == [[1, 1], [0, 1], [0, 1]]
        assert rows("json_f1", *pairs, schema=given) == [[2, 2], [0, 1], [0, 0]]


@pytest.mark.parametrize("name", ["json_match", "json_f1"])
def test_a_bad_schema_is_named(name):
    with pytest.raises(ValueError, match="schema: 'strange' is not valid"):
        rows(name, ("1", "1"), schema={"type": "strange"})


@pytest.mark.parametrize("name", ["json_match", "json_f1"])
def test_a_target_that_is_no_json_is_named(name):
    with pytest.raises(ValueError, match="the target 'text' has no JSON value"):
        rows(name, ("text", "1"), ("text", "text"))


@pytest.mark.parametrize("name", ["json_match", "json_f1"])
@pytest.mark.parametrize("levels", [99, 500, 991, 992, 5000])
def test_an_answer_with_many_levels_is_wrong_and_ends_nothing(name, levels):
    (row,) = rows(name, ("[" * levels + "]" * levels, "[1]"))
    assert row[0] == 0


@pytest.mark.parametrize("name", ["json_match", "json_f1"])
def test_which_answers_are_json(name):
    metrics = Metrics([name], {name: {"schema": {"type": "object"}}})
    answers = [
        '{"a": 2}',
        " {}\n",
        "[1]",
        '{"a": 2',
        'Sure: {"a": 2}',
        '```json\n{"a": 2}\n```',
        "",
    ]
    bare = [True, True, False, False, False, False, False]
    assert metrics.well_formed(name, answers, ['{"a": 1}']) == bare
    # Where the targets have a fence, answers may too.
    fenced = [True, True, False, False, True, True, False]
    assert metrics.well_formed(name, answers, ['```json\n{"a": 1}\n```']) == fenced
    assert metrics.lenient_scores(name, answers, ["{}"] * len(answers)) is None
