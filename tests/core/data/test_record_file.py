"""Records that are read from their file one at a time."""

import gc

import psutil
import pytest

from stages.core.data.records import PREPARED, RecordFile, read_records
from stages.core.errors import UserError
from stages.core.storage.files import write_jsonl


def test_the_records_are_those_of_the_file(prepared):
    records = RecordFile.open(PREPARED / "train.jsonl")
    assert list(records) == read_records("train") == prepared["train"]
    assert len(records) == 24
    assert records[3] == prepared["train"][3] and records[-1] == prepared["train"][-1]
    assert records[2:9:3] == prepared["train"][2:9:3]
    assert list(records.select([5, 1])) == [prepared["train"][5], prepared["train"][1]]


def test_a_position_after_the_last_record_is_refused(prepared):
    with pytest.raises(IndexError):
        RecordFile.open(PREPARED / "train.jsonl")[24]


def test_a_file_without_records_has_none(workspace):
    write_jsonl(PREPARED / "train.jsonl", [])
    assert list(RecordFile.open(PREPARED / "train.jsonl")) == []


def test_a_missing_file_names_the_stage_to_run(workspace):
    with pytest.raises(UserError, match="dvc repro"):
        RecordFile.open(PREPARED / "train.jsonl")


def count_open_files():
    return psutil.Process().num_fds()


def test_files_are_closed_when_nobody_needs_them(prepared):
    before = count_open_files()
    part = RecordFile.open(PREPARED / "train.jsonl").select([0])
    gc.collect()
    assert part[0] == prepared["train"][0]
    del part
    gc.collect()
    assert count_open_files() == before
