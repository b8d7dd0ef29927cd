import time

import pytest

from stages.baseline.__main__ import main as baseline
from stages.core.data.records import PREPARED
from stages.core.errors import UserError
from stages.core.metrics import metrics as loading
from stages.core.metrics.metric_check import check_metrics
from stages.core.metrics.metrics import Metrics
from stages.core.storage.files import write_jsonl
from tests.conftest import TINY, chat, compose_config

NOTHING = "No entities found"


def check(name, targets, **options):
    check_metrics(
        Metrics([name], {name: options}),
        [chat(f"{n}?", target) for n, target in enumerate(targets)],
        0,
    )


@pytest.mark.parametrize(
    ("name", "targets", "options", "said"),
    [
        (
            "entity_f1",
            [NOTHING, NOTHING],
            {},
            r"entity_f1 scores empty answers 1\.000 and perfect answers 1\.000",
        ),
        (
            "entity_f1",
            ["[Ann - PERSON]", "[Bo Lee - ]"],
            {},
            r"entity_f1 cannot read some targets, .*\[Bo Lee - \]",
        ),
        ("entity_f1", ["[Ann-person]"], {}, r"empty answers 1\.000 .*NAME - TYPE, NAME - TYPE"),
        ("set_f1", ["()", "[]"], {}, "set_f1 scores empty answers"),
        (
            "bleu",
            ["yes", "no"],
            {},
            r"bleu scores perfect answers 0\.000 instead of 1, .*script: Latin.* choose chrf",
        ),
        (
            "rouge",
            ["new", "größer"],
            {"tokenizer": "rouge_score", "kind": "rouge2"},
            r"rouge scores a perfect answer 0\.",
        ),
        (
            "json_match",
            ['{"a": 1}'],
            {"schema": {"type": "array"}},
            r"json_match scores a perfect answer 0\.000.* schema",
        ),
        (
            "json_f1",
            ['{"a": 1}', "text"],
            {},
            r"evaluate\.options\.json_f1: the target 'text' has no JSON value",
        ),
        (
            "numeric_match",
            ["1,5"],
            {},
            r"evaluate\.options\.numeric_match: the target '1,5' .*set decimal=','",
        ),
    ],
)
def test_a_metric_that_cannot_tell_right_from_wrong_stops(name, targets, options, said):
    with pytest.raises(UserError, match=said) as error:
        check(name, targets, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "targets", "options"),
    [
        ("entity_f1", [NOTHING, "[Ann - PERSON]"], {}),
        ("entity_f1", ["[Acme - COMPANY]", "[Ann - PERSON]"], {"types": ["PERSON"]}),
        ("set_f1", ["[]", "a, b"], {}),
        ("json_f1", ["{}", '{"a": 1}'], {}),
        ("sql_execution", ["SELECT 1", "no query"], {}),
        ("perplexity", ["a"], {}),
        ("judge", ["a"], {}),  # asks nobody
    ],
)
def test_a_row_that_adds_nothing_is_no_defect(name, targets, options):
    assert check(name, targets, **options) is None  # it raises where there is one


def test_many_rows_cost_little_and_a_defect_of_few_rows_is_found():
    targets = [f"row {n}" if n % 50 else "да" for n in range(100_000)]
    records = [chat(str(n), target) for n, target in enumerate(targets)]
    metrics = Metrics(["exact_match", "rouge"], {"rouge": {"tokenizer": "rouge_score"}})
    begun = time.process_time()
    with pytest.raises(UserError, match=r"rouge .*да"):
        check_metrics(metrics, records, 0)
    assert time.process_time() - begun < 5


def test_a_metric_of_ones_own_may_have_another_best(tmp_path, monkeypatch):
    body = (
        "from stages.core.metrics.row_metric import RowMetric\n\n\n"
        "class Polite(RowMetric):\n    '''Says please.'''\n\n{best}"
        "    def contribute(self, prediction, reference, record):\n"
        "        return float('please' in prediction), 1.0\n"
    )
    monkeypatch.setattr(loading, "METRICS_FOLDER", tmp_path)
    for name, best in (("polite", ""), ("courteous", "    best = None\n\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text(body.format(best=best))
    check("courteous", ["a"])
    with pytest.raises(
        UserError, match=r"polite scores a perfect answer 0\.000 instead of 1, .*`best = None`"
    ):
        check("polite", ["a"])


def test_the_run_stops_before_the_base_model_is_asked(prepared, workspace, monkeypatch):
    write_jsonl(PREPARED / "test.jsonl", [chat("Translate.", "สะพานปิดจนกว่าจะมีประกาศเพิ่มเติม")])
    monkeypatch.setattr(
        "stages.core.inference.engine.get_engine",
        lambda *_: pytest.fail("the base model was loaded"),
    )
    options = (
        "evaluate.metrics=[bleu]",
        "evaluate.primary_metric=bleu",
        "+evaluate.options.bleu.tokenizer=13a",
    )
    with pytest.raises(
        SystemExit, match=r"baseline: evaluate\.metrics: bleu scores perfect answers"
    ):
        baseline(compose_config(*TINY, *options))
