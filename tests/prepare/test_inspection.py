import json
import re
from dataclasses import replace

import pytest

from stages.core.data.records import Record
from stages.core.models.base_models import get_base_tokenizer
from stages.core.models.loading import get_tokenizer
from stages.core.planning.auto import cookbook_epochs
from stages.core.planning.estimate import estimate_training
from stages.core.planning.model_dimensions import get_model_dimensions
from stages.prepare.findings import Findings
from stages.prepare.inspection import inspect
from stages.prepare.reading import Placed
from stages.prepare.similarity.comparison import compare_rows
from stages.prepare.splits import SplitFiles
from stages.prepare.statistics import describe_tokens, table
from tests.conftest import chat
from tests.prepare.rows import read_findings


class Inspected:
    """What is left after the second look at some records, and what was found."""

    def __init__(self, config, folder, *placed, template=None):
        self.config = config
        self.tokenizer = get_tokenizer(get_base_tokenizer(config.model))
        self.tokenizer.chat_template = template or self.tokenizer.chat_template
        files = SplitFiles(folder)
        self.all = Findings(config.checks, folder / "found.jsonl")
        files.write(
            Placed(record, split, "rows", line)
            for line, (split, record) in enumerate(placed, start=1)
        )
        compared = compare_rows(config, files, drawn=())
        found = inspect(config, self.tokenizer, files, compared, self.all, ends=())
        self.tokens, self.preview, self.leaks, _ = found
        self.all.close()
        self.findings = read_findings(folder / "found.jsonl")
        self.records = {
            name: [r for b in files.batches(name) for r in b]
            for name in ("train", "validation", "test")
        }
        self.files = files
        self.failed = self.all.failed

    def figures(self):
        return describe_tokens(
            self.tokens.counts, 4096, self.tokens.over_limit, self.tokens.truncated
        )


LONG = chat("start " + "word " * 60 + "end", "answer")


@pytest.mark.parametrize(("action", "failed"), [("fail", True), ("drop", False)])
def test_a_row_over_the_limit_is_left_out(config, tmp_path, action, failed):
    seen = Inspected(
        config("model.max_length=200", f"checks.too_long={action}"),
        tmp_path,
        ("train", chat("q", "a")),
        ("train", LONG),
    )
    assert [(f.code, f.line, f.record) for f in seen.findings] == [("too_long", 2, LONG.id)]
    assert seen.failed == failed and len(seen.records["train"]) == 1 and seen.tokens.over_limit == 1


def test_truncation_cuts_the_beginning_of_the_question_and_keeps_the_answer(config, tmp_path):
    seen = Inspected(
        config("model.max_length=200", "checks.too_long=truncate"), tmp_path, ("train", LONG)
    )
    [record] = seen.records["train"]
    assert record.target == "answer" and record.prompt[0]["content"].endswith("word end")
    assert "start" not in record.prompt[0]["content"] and record.id != LONG.id
    assert seen.tokens.truncated == 1 and seen.figures()["tokens"]["max"] <= 200 and not seen.failed
    assert [row.why for row in seen.preview.rows] == [
        "Training row",
        "Truncated row",
        "Longest training row",
    ]


def test_what_cannot_be_cut_is_dropped_and_said_so(config, tmp_path):
    whole = chat("q", "word " * 60)
    seen = Inspected(
        config("model.max_length=200", "checks.too_long=truncate"), tmp_path, ("train", whole)
    )
    assert seen.records["train"] == [] and '"dropped"' in (tmp_path / "found.jsonl").read_text()


def test_a_test_row_must_leave_room_for_the_long_question_and_the_answer(config, tmp_path):
    long = config(
        "model.max_length=120",
        "prompt.max_new_tokens=60",
        "prompt.system_prompt='Say it in many words'",
    )
    seen = Inspected(
        long, tmp_path, ("test", chat("question " * 3, "a")), ("train", chat("question " * 4, "b"))
    )
    assert [(f.code, f.line) for f in seen.findings] == [("too_long", 1)]


def test_a_row_that_the_template_refuses_is_a_finding(config, tmp_path):
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}x"
    )
    seen = Inspected(config(), tmp_path, ("train", chat("q", "a", "system")), template=template)
    assert [(f.code, f.line) for f in seen.findings] == [("template_refuses", 1)]
    assert "no system here" in seen.findings[0].found and seen.failed


def test_a_template_that_leaves_the_answer_out_trains_nothing_but_the_end(config, tmp_path):
    seen = Inspected(
        config(), tmp_path, ("train", chat("q", "a")), template="{{ messages[0].content }}"
    )
    assert [f.code for f in seen.findings] == ["no_trained_token"]


def test_tools_that_the_template_does_not_show_are_a_warning(config, tmp_path):
    record = Record.of(
        chat("q", "a").messages, tools=[{"type": "function", "function": {"name": "add"}}]
    )
    seen = Inspected(config(), tmp_path, ("train", record))
    assert [f.code for f in seen.findings] == ["unseen_tools"] and seen.records["train"] == [record]


TEXT = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
LEAKING = [
    ("train", chat(TEXT, "a")),
    ("test", chat(f"{TEXT} more", "a")),
    ("test", chat("something else", "b")),
]


def test_a_leak_under_the_limit_costs_the_training_row(config, tmp_path):
    seen = Inspected(config("checks.max_leak_fraction=0.5"), tmp_path, *LEAKING)
    leak = ("leak", 1, LEAKING[0][1].id)
    assert [(f.code, f.line, f.record) for f in seen.findings] == [leak] and not seen.failed
    assert seen.records["train"] == [] and len(seen.records["test"]) == 2
    assert seen.figures()["messages"]["sum"] == 4  # of the rows that are left


@pytest.mark.parametrize(("action", "leaking"), [("drop", 0), ("warn", 1)])
def test_the_held_out_rows_that_still_leak_are_counted(config, tmp_path, action, leaking):
    settings = config("checks.max_leak_fraction=1.0", f"checks.leak={action}")
    seen = Inspected(settings, tmp_path, *LEAKING)
    held_out = len(seen.records["test"]) + len(seen.records["validation"])
    assert seen.leaks == (held_out, leaking)


def test_leaks_over_the_limit_fail_with_the_pairs(config, tmp_path):
    seen = Inspected(config("checks.max_leak_fraction=0.1"), tmp_path, *LEAKING)
    assert seen.failed
    assert (
        "93% similar to line 2, but this row is in train and that one in test "
        "(50.0% of the held-out rows" in seen.all.table()
    )


def test_near_duplicates_in_a_split_are_a_warning(config, tmp_path):
    rows = [("train", chat(TEXT, "a")), ("train", chat(f"{TEXT} more", "a"))]
    seen = Inspected(config(), tmp_path, *rows)
    assert [(f.code, f.line) for f in seen.findings] == [("near_duplicate", 2)] and len(
        seen.records["train"]
    ) == 2


def toy():
    """Chats with the counts of OpenAI's toy file: 3, 9, 2, 2, 3 messages, one without system, one without user."""
    system, user, answer = (
        {"role": role, "content": role} for role in ("system", "user", "assistant")
    )
    chats = [
        [system, user, answer], [system, *[user, answer] * 4], [user, answer], [system, answer], [system, user, answer],
    ]  # fmt: skip
    return [
        Record.of([{**m, "content": f"{m['content']} {n}"} for m in chat])
        for n, chat in enumerate(chats)
    ]


def test_the_figures_are_those_of_openai(config, tmp_path):
    seen = Inspected(config(), tmp_path, *[("train", record) for record in toy()])
    figures = seen.figures()
    assert seen.findings == []
    assert (figures["without_system"], figures["without_user"]) == (1, 1)
    messages = figures["messages"]
    assert (messages["min"], messages["max"], messages["mean"], messages["median"]) == (
        2,
        9,
        3.8,
        3.0,
    )
    lengths = [
        len(seen.tokenizer.apply_chat_template(r.messages)["input_ids"]) - 1 for r in toy()
    ]  # "\n" is not read
    assert seen.tokens.counts["train"].column("tokens").tolist() == lengths
    assert figures["cookbook"] == {
        "epochs": 20, "billed_tokens_per_epoch": sum(lengths), "billed_tokens": 20 * sum(lengths)
    }  # fmt: skip
    assert "without a system message: 1. Rows without a user message: 1." in table(figures)


@pytest.mark.parametrize(
    ("rows", "epochs"), [(1, 25), (5, 20), (33, 3), (34, 3), (8333, 3), (8334, 2), (30000, 1)]
)
def test_openais_epochs(rows, epochs):
    assert cookbook_epochs(rows) == epochs


def test_the_preview_marks_what_is_trained(config, tmp_path):
    seen = Inspected(config(), tmp_path, ("train", chat("<b>question</b>", "answer")))
    assert "⟦answer<|im_end|>⟧" in seen.preview.text()
    seen.preview.write(tmp_path / "preview.html", seen.figures() | {"estimate": None})
    page = (tmp_path / "preview.html").read_text()
    assert "<b>" not in page and page.count('class="trained"') == 1 + len(seen.preview.rows)
    assert "".join(seen.preview.rows[0].pieces[1]) == "answer<|im_end|>"


def test_the_estimate_counts_steps_and_grows_with_the_work(config):
    checked = config("train.args.num_train_epochs=3", "train.args.per_device_train_batch_size=8")
    dimensions = get_model_dimensions(checked.model, get_base_tokenizer(checked.model))

    def of(tokens):
        return estimate_training(
            checked.train, dimensions, 100, tokens, tokens // 4, 4096, "float32"
        )

    assert (of(10_000)["steps"], of(10_000)["tokens"]) == (39, 30_000)
    assert of(1_000_000)["seconds"] > 5 * of(100_000)["seconds"]
    assert "on this machine" in of(10_000)["sentence"]
    unknown = estimate_training(checked.train, None, 100, 10_000, 100, 4096, "float32")
    assert "seconds" not in unknown and "not estimated" in unknown["sentence"]


def test_the_shape_knows_its_weights(config, base):
    from stages.core.models.loading import get_model

    dimensions = get_model_dimensions(config().model, base)
    norms = dimensions.hidden * (2 * dimensions.layers + 1)
    assert get_model(base, "float32").num_parameters() == dimensions.parameters + norms


def test_a_record_without_weights_reads_as_it_was_written(tmp_path):
    record = replace(chat("q", "a"), meta={"label": "x"})
    assert (
        json.loads(record.dump())["meta"] == {"label": "x"} and Record.load(record.dump()) == record
    )


def test_hostile_rows_stay_text_in_the_preview(config, tmp_path):
    text = "</pre><script>alert(1)</script> \x1b[2J\u202e ما هي عاصمة فرنسا؟"
    seen = Inspected(config(), tmp_path, ("train", chat(text, "answer")))
    seen.preview.write(tmp_path / "preview.html", seen.figures() | {"estimate": None})
    page = (tmp_path / "preview.html").read_text()
    assert "<script" not in page and page.count("</pre>") == len(seen.preview.rows)
    assert r"\u202e" in page and not {"\x1b", "\u202e"} & set(page)
    assert re.search(r"pre \{[^}]*unicode-bidi: plaintext", page)  # each line its own direction
