"""Several labels for each row: what is learned, and answers in the form of the targets."""

import json
import shutil

import pytest
import torch

from stages.core.config.schema import parse
from stages.core.data.records import read_records
from stages.core.errors import UserError
from stages.core.metrics.metrics import Metrics
from stages.core.models.classifier import choose_labels
from stages.core.models.loading import TUNED
from stages.train.methods import get_method
from tests.conftest import chat, compose_config
from tests.train.methods.test_labels import (
    ADAPTER,
    DECODER,
    ENCODER,
    QUICK,
    answers,
    options,
    refused,
    train,
    write_rows,
)

METHOD = "sequence-classification"
MANY = 'train.label_separator=","'
# The order of the targets is not that of the alphabet.
SIGNS = {"?": "query", "!": "loud", "#": "a tag"}


def signed(n):
    shown = [sign for i, sign in enumerate(SIGNS) if (n % 8) >> i & 1]
    return chat(f"{n} {''.join(6 * sign for sign in shown)}", _write(shown), "Which signs?")


def _write(shown):
    return f"[{', '.join(SIGNS[sign] for sign in shown)}]"


@pytest.mark.parametrize(("base", "adapter"), [(DECODER, None), (ENCODER, ADAPTER)])
def test_it_learns_all_labels_of_a_row_and_answers_as_the_targets_do(workspace, base, adapter):
    write_rows(signed, train=64)
    more = [adapter, "train.args.learning_rate=2e-2"] if adapter else []
    numbers = train(METHOD, MANY, base, *more)
    assert numbers["eval_loss"] < numbers["eval_loss_before_training"] < 1
    saved = json.loads((TUNED / "config.json").read_text())
    assert saved["problem_type"] == "multi_label_classification"
    assert list(saved["id2label"].values()) == ["query", "loud", "a tag"]
    found, records = answers("validation", METHOD, MANY, base, *more)
    texts = [answer.text for answer in found]
    assert set(texts) <= {_write([s for i, s in enumerate(SIGNS) if n >> i & 1]) for n in range(8)}
    targets = [record.target for record in records]
    assert "[]" in targets
    scores = Metrics(["set_f1", "exact_match"], {}).score(texts, targets)
    # What `evaluate` will measure is what training measured.
    assert scores["set_f1"].value == pytest.approx(numbers["eval_f1"])
    assert scores["exact_match"].value == pytest.approx(numbers["eval_accuracy"])
    if base == DECODER:
        assert texts == targets and numbers["eval_f1"] == 1


def test_a_row_without_a_likely_label_gets_one_if_every_target_has_one():
    logits = torch.tensor([[-1.0, -2.0], [1.0, 2.0], [-3.0, 4.0]])
    assert choose_labels(logits, False).tolist() == [[False, False], [True, True], [False, True]]
    assert choose_labels(logits, True).tolist() == [[True, False], [True, True], [False, True]]


def test_bfloat16_and_float32_heads_have_the_same_loss(workspace):
    write_rows(signed)
    found = []
    for kind in ("float32", "bfloat16"):
        numbers = train(METHOD, MANY, DECODER, QUICK, f"model.dtype={kind}")
        found.append(numbers["eval_loss_before_training"])
        shutil.rmtree(TUNED)
    assert found[0] == pytest.approx(found[1], abs=0.02)


def test_rows_with_an_unknown_label_are_left_out_and_counted(workspace):
    write_rows(signed)
    method = get_method(parse(compose_config(*options(METHOD, MANY, ENCODER))))
    method.get_examples(read_records("train"))
    held_out = method.get_examples([signed(1), chat("?", "[query, odd]")])
    assert held_out["labels"] == [[1.0, 0.0, 0.0]]
    assert method.metadata["labels"]["validation"]["unknown_labels"] == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (lambda n: chat(f"q{n}", "yes, no"), "all training rows list the same labels"),
        (lambda n: chat(f"q{n}", f"a{n}, b"), "48 of 48 training rows list a label that no other"),
    ],
)
def test_targets_that_are_no_lists_of_labels_are_refused(workspace, row, said):
    write_rows(row)
    assert said in refused(METHOD, MANY, ENCODER)


def test_only_texts_have_several_labels(config):
    with pytest.raises(UserError, match=r"train.label_separator: only method sequence-class"):
        config("train=token-classification", MANY)
