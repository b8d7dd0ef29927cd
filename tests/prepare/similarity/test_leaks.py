import json
import random

import pytest

from stages.core.data.records import read_records
from stages.prepare.__main__ import main
from stages.prepare.findings import Findings
from stages.prepare.reading import Placed
from stages.prepare.similarity.comparison import compare_rows
from stages.prepare.similarity.leaks import report_pairs
from stages.prepare.splits import SplitFiles
from tests.conftest import TINY, chat, compose_config
from tests.prepare.rows import read_findings, write

GIVEN = (
    "data.source.path={train: train.jsonl, test: test.jsonl}",
    "data.dvc_dependency=train.jsonl",
)


def find_leaks(config, folder, *placed, overrides=()):
    """Return the lines of the rows that leak, and whether that stops the stage."""
    checked = config("checks.max_leak_fraction=1", *overrides)
    files = SplitFiles(folder)
    files.write(
        Placed(record, split, "rows", line) for line, (split, record) in enumerate(placed, start=1)
    )
    findings = Findings(checked.checks, folder / "found.jsonl")
    compared = compare_rows(checked, files, drawn=())
    report_pairs(checked, compared.pairs, compared.ids, files, findings)
    findings.close()
    return {f.line for f in read_findings(folder / "found.jsonl") if f.code == "leak"}


def others(count, split="train", instruction=None):
    return [(split, chat(f"{split} asks {n}", f"says {n}", instruction)) for n in range(count)]


def test_a_question_of_the_test_split_is_a_leak_however_its_answer_is_worded(config, tmp_path):
    rows = [
        ("train", chat("How  MUCH is it?", "Ten euros.")),
        ("test", chat("how much is it?", "10 €")),
    ]
    assert find_leaks(config, tmp_path, *rows, *others(30), *others(9, "test")) == {1}


def test_an_instruction_in_other_words_hides_no_leak(config, tmp_path):
    rows = [
        ("train", chat("how much?", "ten", "Be short.")),
        ("test", chat("how much?", "10", "Be brief.")),
    ]
    more = [*others(30, "train", "Be short."), *others(9, "test", "Be brief.")]
    assert find_leaks(config, tmp_path, *rows, *more) == {1}


def test_a_question_about_another_text_in_the_system_message_is_no_leak(config, tmp_path):
    rows = [
        (split, chat(f"How many rooms are in hotel {n % 40}?", f"{n}", f"Text {n} of the hotel."))
        for n, split in enumerate(["train", "test"] * 40)
    ]
    assert find_leaks(config, tmp_path, *rows) == set()


def test_a_question_that_all_rows_ask_says_nothing(config, tmp_path):
    draws = random.Random(4)
    rows = [
        (split, chat("Write a poem.", " ".join(str(draws.random()) for _ in range(9))))
        for split in ["train", "test"] * 30
    ]
    assert find_leaks(config, tmp_path, *rows) == set()


def test_records_without_a_question_leak_by_their_text_alone(config, tmp_path):
    from stages.core.data.records import Record

    def text(words):
        return Record.of([{"role": "assistant", "content": words}], kind="text")

    rows = [("train", text("one two three four")), ("test", text("one two three four"))]
    more = [("train", text(f"text {n} of many")) for n in range(5)]
    assert find_leaks(config, tmp_path, *rows, *more) == {1}


def test_a_near_question_with_another_answer_is_no_leak(config, tmp_path):
    question = " ".join(f"word{n}" for n in range(30))
    rows = [("train", chat(f"{question} a", "yes")), ("test", chat(f"{question} b", "no"))]
    assert find_leaks(config, tmp_path, *rows) == set()


def test_a_training_row_that_is_nearer_to_another_training_row_still_leaks(config, tmp_path):
    words = [f"word{n}" for n in range(40)]
    near = [*words[:-2], "x", "y"]
    rows = [("test", words), ("train", near), ("train", [*near, "z"])]
    placed = [(split, chat(" ".join(text), "a")) for split, text in rows]
    assert find_leaks(config, tmp_path, *placed) == {2, 3}


def prepare_leaking(workspace, *overrides):
    """Prepare 30 test questions that all stand in the training file too, with other answers."""
    asked = [f"What is thing number {n}?" for n in range(30)]
    rows = [{"prompt": question, "completion": f"It is {n}."} for n, question in enumerate(asked)]
    more = [{"prompt": f"Who is person {n}?", "completion": f"{n}"} for n in range(60)]
    write(workspace / "train.jsonl", *rows, *more)
    write(workspace / "test.jsonl", *({"prompt": q, "completion": "Reworded."} for q in asked))
    main(compose_config(*TINY, *GIVEN, *overrides))


def test_given_splits_with_equal_questions_are_refused_with_the_share(workspace):
    with pytest.raises(SystemExit) as stop:
        prepare_leaking(workspace)
    said = str(stop.value)
    assert "error leak: 30" in said and "the same question as test.jsonl:1" in said
    assert "of the held-out rows leak, checks.max_leak_fraction=10.0%" in said
    assert "-S checks=lenient" in said and "-S checks.max_leak_fraction=1." in said


@pytest.mark.parametrize("advice", ["checks=lenient", "checks.max_leak_fraction=1"])
def test_the_advice_for_leaks_works_as_it_is_given(workspace, advice):
    prepare_leaking(workspace, advice)
    numbers = json.loads((workspace / "metrics/prepare.json").read_text())
    assert numbers["findings"]["leak"] == 30 and numbers["test"] == 30
    left = {record.question for split in ("train", "validation") for record in read_records(split)}
    assert len(left) == 60 and not any("thing" in question for question in left)
