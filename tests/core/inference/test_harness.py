import copy
import json
import logging
import sys
from functools import partial

import numpy as np
import orjson
import pytest

from stages.core.config.evaluate import LmEvalConfig
from stages.core.errors import UserError
from stages.core.inference.harness import ask_harness
from stages.core.models.base_models import get_base_model
from stages.core.models.loading import get_model, get_tokenizer

ITEMS = 12
CHOICE = """
task: our_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{folder}/items.jsonl"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
metadata: {{version: 3}}
"""
WORDS = """
task: our_words
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{folder}/items.jsonl"}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4, do_sample: false}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
  - {{metric: bleu, aggregation: bleu, higher_is_better: true}}
metadata: {{version: 1}}
"""
GROUP = """
group: our_group
task: [our_choice, our_words]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
metadata: {version: 2}
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Tasks of our own, alone: the harness's 14,000 take it seconds to list."""
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "tasks"
    folder.mkdir()
    items = [
        {
            "question": f"Is {'very ' * n}{n} small?",
            "choices": ["yes", "no", f"{n}"],
            "answer": n % 3,
        }
        for n in range(ITEMS)
    ]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    (folder / "choice.yaml").write_text(CHOICE.format(folder=folder))
    (folder / "words.yaml").write_text(WORDS.format(folder=folder))
    (folder / "group.yaml").write_text(GROUP)
    return LmEvalConfig(
        tasks=["our_choice", "our_words"], folder=str(folder), limit=None, batch_size=4
    )


@pytest.fixture
def tiny(base):
    return get_model(base, "float32"), get_tokenizer(base)


def test_no_task_asks_nothing_and_imports_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    settings = LmEvalConfig(tasks=[], folder=None, limit=None, batch_size=1)
    assert ask_harness(None, None, settings, seed=1) == {}


def test_scores_of_items_make_the_value(tiny, settings):
    found = ask_harness(*tiny, settings, seed=1)
    assert orjson.loads(orjson.dumps(found)) == found
    assert list(found) == ["our_choice", "our_words"] and found["our_choice"]["version"] == 3
    acc = found["our_choice"]["metrics"]["acc"]
    assert len(acc["scores"]) == ITEMS and set(acc["scores"]) == {0.0, 1.0}
    assert acc["value"] == pytest.approx(np.mean(acc["scores"]))
    assert acc["stderr"] == pytest.approx(np.std(acc["scores"], ddof=1) / ITEMS**0.5)
    assert len(found["our_words"]["metrics"]["exact_match"]["scores"]) == ITEMS
    assert found["our_words"]["metrics"]["bleu"] == {"value": 0.0, "stderr": None, "scores": None}


def best_choices(model, tokenizer, settings):
    """The harness's definition by hand: the choice whose tokens are likeliest after the question."""
    import torch

    with torch.inference_mode(), open(f"{settings.folder}/items.jsonl") as file:  # noqa: PTH123
        for item in map(json.loads, file):
            start = tokenizer(f"{item['question']}\nAnswer:")["input_ids"]
            sums = []
            for choice in item["choices"]:
                rest = tokenizer(f" {choice}")["input_ids"]
                logits = model(torch.tensor([start + rest])).logits[0].log_softmax(-1)
                sums.append(
                    sum(float(logits[len(start) + i - 1, token]) for i, token in enumerate(rest))
                )
            yield float(int(np.argmax(sums)) == item["answer"])


@pytest.mark.parametrize("batch_size", [1, 5])
def test_padding_changes_no_score_and_the_tokenizer_stays_as_it_was(tiny, settings, batch_size):
    model, tokenizer = tiny
    before = copy.deepcopy(tokenizer.init_kwargs), tokenizer.padding_side, tokenizer.pad_token
    settings = settings.model_copy(update={"batch_size": batch_size, "tasks": ["our_choice"]})
    scores = ask_harness(model, tokenizer, settings, seed=1)["our_choice"]["metrics"]["acc"][
        "scores"
    ]
    assert scores == list(best_choices(model, tokenizer, settings))
    assert (tokenizer.init_kwargs, tokenizer.padding_side, tokenizer.pad_token) == before


def test_the_limit_takes_the_first_items_and_other_items_have_another_digest(tiny, settings):
    asked = [
        ask_harness(
            *tiny, settings.model_copy(update={"limit": limit, "tasks": ["our_choice"]}), seed=1
        )["our_choice"]
        for limit in (5, None)
    ]
    few, all_ = (found["metrics"]["acc"]["scores"] for found in asked)
    assert few == all_[:5] and asked[0]["items_sha256"] != asked[1]["items_sha256"]


def test_a_group_is_one_row_with_the_items_of_its_tasks(tiny, settings):
    found = ask_harness(*tiny, settings.model_copy(update={"tasks": ["our_group"]}), seed=1)
    assert list(found) == ["our_group"] and list(found["our_group"]["metrics"]) == ["acc"]
    assert len(found["our_group"]["metrics"]["acc"]["scores"]) == ITEMS


def test_another_model_scores_otherwise_on_the_same_items(tiny, settings, config):
    other = get_base_model(config().model, seed=7)
    found = [
        ask_harness(model, tiny[1], settings, seed=1)["our_choice"]
        for model in (tiny[0], get_model(other, "float32"))
    ]
    assert found[0]["items_sha256"] == found[1]["items_sha256"]
    assert found[0]["metrics"]["acc"]["scores"] != found[1]["metrics"]["acc"]["scores"]


def test_an_unknown_task_is_one_message_with_the_nearest_names(tiny):
    settings = LmEvalConfig(tasks=["helaswag"], folder=None, limit=1, batch_size=1)
    with pytest.raises(
        UserError, match=r"evaluate\.lm_eval\.tasks: .*'helaswag'; did you mean 'hellaswag'"
    ):
        ask_harness(*tiny, settings, seed=1)


def test_data_that_cannot_be_had_is_one_message(tiny, settings, tmp_path):
    (tmp_path / "tasks" / "items.jsonl").unlink()
    with pytest.raises(
        UserError, match=r"could not prepare \['our_choice', 'our_words'\]: .*items\.jsonl"
    ):
        ask_harness(*tiny, settings, seed=1)


def test_without_the_harness_the_message_says_how_to_get_it(monkeypatch, settings):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"pip install .* --group lm-eval"):
        ask_harness(None, None, settings, seed=1)


def test_the_harness_is_quiet(tiny, settings, caplog):
    with caplog.at_level(logging.INFO):
        ask_harness(*tiny, settings.model_copy(update={"tasks": ["our_choice"]}), seed=1)
    assert [record for record in caplog.records if record.name.startswith("lm_eval")] == []
