import math

import numpy as np
import pytest
import torch

from stages.core.data.predictions import Prediction
from stages.core.errors import UserError
from stages.core.inference.asking import ask
from stages.core.inference.engine import TransformersEngine
from stages.core.metrics.metrics import Metrics
from stages.core.models.likelihood import get_nats
from stages.core.models.loading import get_model, get_tokenizer
from tests.conftest import chat


@pytest.fixture
def model(base):
    return get_model(base, "float32")


def test_nats_are_those_of_each_row_alone(model, base):
    tokenizer = get_tokenizer(base)
    pairs = [
        ("Say it.", "one"),
        ("Please say it again, and slowly.", "twenty-two"),
        ("x", "a rather long target"),
    ]
    texts = [tuple(tokenizer(part)["input_ids"] for part in pair) for pair in pairs]
    found = get_nats(model, texts, title="")
    for (given, told), nats in zip(texts, found, strict=True):
        ids = torch.tensor([given + told])
        labels = torch.tensor([[-100] * len(given) + told])
        assert nats == pytest.approx(float(model(ids, labels=labels).loss) * len(told), rel=1e-4)


def test_every_arm_can_read_the_targets_after_its_own_prompt(model, base, config):
    records = [chat("Say 1.", "number 1"), chat("Say 2.", "number 2")]
    tokenizer = get_tokenizer(base)
    engine = TransformersEngine(model, tokenizer, 4096)
    short, long = (
        ask(
            "tuned",
            engine,
            tokenizer,
            config("evaluate.target_loglikelihood=true"),
            records,
            instruction,
        )
        for instruction in ("Say.", "Say what you are asked to say, and no more.")
    )
    assert [p.target_tokens for p in short] == [
        len(tokenizer("number 1")["input_ids"]) + 1
    ] * 2  # the end token
    assert short[0].target_nats != long[0].target_nats
    assert ask("tuned", engine, tokenizer, config(), records, None)[0].target_nats is None


def test_perplexity_is_over_all_tokens_and_cannot_decide():
    records = [chat("a", "b"), chat("c", "d")]
    answers = [
        Prediction(record.id, "tuned", "", 1, 1, 0.1, target_nats=nats, target_tokens=tokens)
        for record, nats, tokens in zip(records, (1.0, 6.0), (2, 4), strict=True)
    ]
    metrics = Metrics(["perplexity"], {})
    scores = metrics.score_records(answers, records)["perplexity"]
    assert scores.value == pytest.approx(math.exp(7 / 6))
    assert scores.values == pytest.approx(np.exp([0.5, 1.5]))
    assert metrics.metadata()["perplexity"]["lower_is_better"] is True
    with pytest.raises(UserError, match="lower is better"):
        Metrics(["perplexity"], {}, "perplexity")
    with pytest.raises(UserError, match=r"evaluate\.target_loglikelihood"):
        metrics.score(["b"], ["b"])
