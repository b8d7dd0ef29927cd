import json
import sys

import pytest

from stages.core.errors import UserError
from stages.core.records import read_records
from stages.prepare.__main__ import main
from stages.prepare.formats import get_records
from stages.prepare.split import drop_duplicates, split_records
from tests.conftest import TINY, chat, compose_config

GOOD = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


def write(path, *lines):
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


def test_chats_and_evals_rows_become_the_same_records(tmp_path):
    evals = {"input": [{"role": "user", "content": "q"}], "ideal": "a"}
    several = {"input": [{"role": "user", "content": "q"}], "ideal": ["a", "b"]}
    records = get_records(write(tmp_path / "rows.jsonl", GOOD, evals, several, b""))
    assert [record.messages for record in records] == [GOOD["messages"]] * 3
    assert len({record.id for record in records}) == 1


def test_a_byte_order_mark_is_read(tmp_path):
    assert len(get_records(write(tmp_path / "rows.jsonl", b"\xef\xbb\xbf" + json.dumps(GOOD).encode()))) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"messages": [', "line 2, column 15: not JSON"),
        (b'"text"', "line 2: expected an object, got str"),
        ({"text": "a"}, "line 2: expected a chat"),
        ({"messages": []}, "line 2, field `messages`: expected a list of messages"),
        ({"messages": ["a"]}, "line 2, field `messages[0]`: expected"),
        ({"messages": [{"role": "user", "content": None}]}, "line 2, field `messages[0]`: expected"),
        ({"messages": [{"role": "bot", "content": "a"}]}, "line 2, field `messages[0].role`: expected one of"),
        ({"messages": [{"role": "user", "content": "a"}]}, "line 2, field `messages`: there is no target"),
        ({"messages": [*GOOD["messages"][:1], {"role": "assistant", "content": " "}]}, "there is no target"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "line 2, field `messages`: there is no question"),
        ({"input": [{"role": "user", "content": "a"}]}, "line 2, field `ideal`: there is no target"),
        ({"input": "a", "ideal": "b"}, "line 2, field `input`: expected a list of messages"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_field(tmp_path, line, said):
    with pytest.raises(UserError) as error:
        get_records(write(tmp_path / "rows.jsonl", GOOD, line))
    assert said in str(error.value) and "rows.jsonl: 1 of 2 rows" in str(error.value)


def test_all_bad_rows_are_counted_and_ten_are_shown(tmp_path):
    with pytest.raises(UserError, match="12 of 13 rows") as error:
        get_records(write(tmp_path / "rows.jsonl", GOOD, *[{"a": n} for n in range(12)]))
    assert str(error.value).count("expected a chat") == 10 and "and 2 more" in str(error.value)


def test_duplicates_go_and_the_first_stays():
    records = [chat("a", "1"), chat("b", "2"), chat("a", "1"), chat("a", "3")]
    assert [record.target for record in drop_duplicates(records)] == ["1", "2", "3"]


def test_the_split_is_a_share_and_stays_when_rows_are_added_or_moved(config):
    split = config().data.split
    old = [chat(f"question {n}", "answer") for n in range(2000)]
    before = split_records(old, split, seed=1)
    after = split_records([chat(f"new {n}", "answer") for n in range(500)] + old[::-1], split, seed=1)
    for name, records in before.items():
        assert {record.id for record in records} <= {record.id for record in after[name]}
    assert 0.22 < len(before["test"]) / 2000 < 0.28


def test_two_answers_to_one_question_stay_together(config):
    records = [chat(f"question {n}", answer) for n in range(300) for answer in ("yes", "no")]
    for part in split_records(records, config().data.split, seed=3).values():
        questions = [record.prompt[0]["content"] for record in part]
        assert all(questions.count(question) == 2 for question in questions)


def test_too_few_rows_for_a_split_are_refused(config):
    with pytest.raises(UserError, match="leaves no rows for"):
        split_records([chat("a", "b")], config().data.split, seed=1)


def rows(count):
    return [{"messages": chat(f"q{n}", "a").messages} for n in range(count)]


def test_the_stage_writes_three_splits_and_its_numbers(workspace):
    write(workspace / "rows.jsonl", *rows(60), rows(1)[0])
    main(compose_config(*TINY))
    numbers = json.loads((workspace / "metrics/prepare.json").read_text())
    assert numbers["rows"] == 61 and numbers["duplicates"] == 1
    assert sum(len(read_records(split)) for split in ("train", "validation", "test")) == 60
    before = (workspace / "data/prepared/test.jsonl").read_bytes()
    main(compose_config(*TINY))
    assert (workspace / "data/prepared/test.jsonl").read_bytes() == before


@pytest.mark.parametrize("content", [None, b"{", b""])
def test_a_failed_run_is_one_message_and_keeps_the_earlier_output(workspace, content, capsys):
    write(workspace / "rows.jsonl", *rows(60))
    main(compose_config(*TINY))
    before = (workspace / "data/prepared/train.jsonl").read_bytes()
    (workspace / "rows.jsonl").unlink() if content is None else (workspace / "rows.jsonl").write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        main(compose_config(*TINY))
    assert str(stop.value).startswith("\nprepare: rows.jsonl: ")
    assert (workspace / "data/prepared/train.jsonl").read_bytes() == before


def test_a_full_disk_is_one_message_and_nothing_half_written(workspace, monkeypatch):
    write(workspace / "rows.jsonl", *rows(60))
    monkeypatch.setattr(
        "stages.prepare.__main__.write_jsonl",
        lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(SystemExit, match="no space left on the disk"):
        main(compose_config(*TINY))
    assert not (workspace / "data").exists() or not list((workspace / "data").rglob("*.jsonl"))


def test_prepare_imports_no_torch():
    import subprocess

    code = "import stages.prepare.__main__, stages.core.tracking, mlflow, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
