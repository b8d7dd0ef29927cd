"""The model card of a hostile data set."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from markdown_it import MarkdownIt

from stages.core.config.data import HubDataSource
from stages.core.config.model import HubSource
from stages.register import card
from stages.register.card import render_card
from stages.register.condition import Condition
from stages.register.hub_card import add_front_matter
from tests.evaluate.report.made_up import make_full_report

HOSTILE = (
    "ok\n\n# Verdict: fine-tune\n\n`x` | <img src=https://phone.home/x.png> ![y](https://phone.home/y)"
    "</code> \x1b[31m @octocat"
)
BASE = HubSource(kind="hub", id="owner/base", revision=None, trust_remote_code=False)
ROWS = HubDataSource(kind="hub", id="owner/rows", revision=None, configuration=None, split="train")
TRAINING = {
    "base_model": {"name": HOSTILE, "quantization": HOSTILE},
    "numbers": {"tokens": 1000, "steps": 5, "trained_parameters": 7},
    "labels": {"names": [HOSTILE, "plain label"]},
}


@pytest.fixture
def make_card(config, monkeypatch):
    """Return a function that renders the card of a hostile data set for a method of training."""

    def make(*overrides, report=None):
        settings = config(*overrides)
        settings = settings.model_copy(
            update={"prompt": settings.prompt.model_copy(update={"tuned_system_prompt": HOSTILE})}
        )
        candidate = SimpleNamespace(name="tuned", config=settings, read_training=lambda: TRAINING)
        report = (report or make_full_report()) | {"reasons": [HOSTILE]}
        report["lineage"] = {**report["lineage"], "data": HOSTILE}
        monkeypatch.setattr(card, "lineage_tags", lambda *_: {"tuneproof.data": HOSTILE})
        return render_card(candidate, report, [Condition("look", False, HOSTILE)])

    return make


@pytest.mark.parametrize("overrides", [(), ("train=sequence-classification",)])
def test_texts_of_rows_have_no_markup_in_the_card(make_card, overrides):
    text = make_card(*overrides)
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    titles = [one.content for head, one in pairwise(tokens) if head.type == "heading_open"]
    assert [title.split()[0] for title in titles[1:]] == [
        "Usage",
        "Intended",
        "The",
        "Lineage",
    ]
    inner = [child for token in tokens for child in token.children or []]
    tags = {child.content for child in inner if child.type == "html_inline"}
    assert tags == {"<code>", "</code>"} and "html_block" not in {token.type for token in tokens}
    assert not {"image", "link_open"} & {child.type for child in inner}
    assert "\x1b" not in text and "@octocat" not in "".join(
        token.content for token in tokens if token.type != "code_block"
    )
    rows = [token for token in tokens if token.type == "tr_open"]
    assert len(rows) == 1 + 8 + 1 + 1  # no text has begun a row of its own


def test_a_card_says_where_training_started_and_that_there_are_several_labels(
    make_card, monkeypatch
):
    before = make_card("train=sequence-classification")
    assert "top_k" not in before and "Training started from" not in before
    labels = {**TRAINING["labels"], "several": True, "always": True}
    start = {"source": HOSTILE, "revision": None, "sha256": "abc"}
    monkeypatch.setitem(TRAINING, "labels", labels)
    monkeypatch.setitem(TRAINING, "init_adapter", start)
    text = make_card("train=sequence-classification")
    assert "truncation=True, top_k=None)" in text and "likeliest label if there is none" in text
    assert "(SHA-256 <code>abc</code>)" in text and "![y]" not in text


@pytest.mark.parametrize("key", ["source", "model"])
def test_a_card_names_the_teacher(make_card, monkeypatch, key):
    assert "teacher" not in make_card()
    monkeypatch.setitem(TRAINING, "teacher", {key: "owner/large"})
    assert "It learned from the teacher owner/large." in make_card()


def test_the_system_message_is_shown_line_by_line(make_card):
    tokens = MarkdownIt().parse(make_card())
    blocks = [token.content for token in tokens if token.type == "code_block"]
    assert blocks[0].splitlines()[:3] == ["ok", "", "# Verdict: fine-tune"]


def test_the_labels_of_a_classifier_are_shown(make_card):
    assert "<code>plain label</code>" in make_card("train=sequence-classification")


def test_a_value_without_an_interval_is_shown_alone(make_card):
    report = make_full_report()
    report["arms"]["zero_shot"][report["primary_metric"]] |= {"ci_low": None, "ci_high": None}
    assert "(too few groups for an interval)" in make_card(report=report)


@pytest.mark.parametrize("data", ["hostile", "hub"])
def test_the_hub_reads_the_front_matter(make_card, config, data):
    from huggingface_hub import ModelCard

    report = make_full_report()
    changed = {
        "hostile": {"data": {"name": HOSTILE}},
        "hub": {
            "data": {"source": ROWS},
            "model": {"source": BASE},
        },
    }[data]
    text = make_card()
    settings = config()
    settings = settings.model_copy(
        update={
            key: getattr(settings, key).model_copy(update=values) for key, values in changed.items()
        }
    )
    candidate = SimpleNamespace(name="tuned", config=settings)
    found = ModelCard(add_front_matter(text, candidate, report))
    assert found.text.strip() == text.strip()
    metadata = found.data
    (first, *_) = metadata.eval_results
    tuned = report["arms"]["tuned"][report["primary_metric"]]
    assert first.metric_type == report["primary_metric"] and first.metric_value == tuned["value"]
    assert first.metric_args["ci_low"] == tuned["ci_low"]
    assert first.dataset_args == {"sha256": report["lineage"]["data_sha256"]["test"]}
    if data == "hub":
        assert (metadata.base_model, metadata.datasets) == ("owner/base", "owner/rows")
    else:
        assert metadata.base_model is None and first.dataset_name == HOSTILE
