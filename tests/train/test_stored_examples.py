"""Tokenized examples are written in chunks to a file, and memory does not grow with the rows."""

import tracemalloc

import pyarrow as pa
import pytest
import torch

from stages.core.data.records import PREPARED, RecordFile
from stages.core.errors import UserError
from stages.core.storage.files import write_jsonl
from stages.core.tracking.tracker import Tracker
from stages.train import stored_examples
from stages.train.build_trainer import get_trainer
from stages.train.methods import get_method
from stages.train.stored_examples import read_numbers, store_examples
from tests.conftest import chat


@pytest.mark.parametrize("name", [None, "rows.arrow"])
def test_all_chunks_come_back_in_32_bits(tmp_path, name):
    rows = [{"row": i, "ids": [i] * (i % 7), "share": i / 2, "text": str(i)} for i in range(2500)]
    found = store_examples(iter(rows), name and tmp_path / name)
    assert list(found) == rows
    assert found.features["ids"].feature.dtype == found.features["row"].dtype == "int32"
    assert read_numbers(found, "row").tolist() == list(range(2500))


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    def fail():
        yield from ({"row": i} for i in range(1500))
        raise UserError("no")

    file = tmp_path / "rows.arrow"
    store_examples([{"row": 7}], file)
    with pytest.raises(UserError, match="no"):
        store_examples(fail(), file)
    assert list(tmp_path.iterdir()) == [file]
    assert store_examples([{"row": 7}], file)[0] == {"row": 7}


@pytest.mark.parametrize("option", ["lora", "pretrain", "dpo", "kto", "grpo"])
def test_every_method_gives_the_same_examples_in_chunks(
    config, workspace, option, monkeypatch, tmp_path
):
    from tests.train.test_every_option import CASES, prepare

    records = prepare(CASES[option].records)["train"]
    method = get_method(config(f"train={option}", *CASES[option].overrides))
    whole = list(method.get_examples(records))
    monkeypatch.setattr(stored_examples, "CHUNK", 5)
    assert list(method.get_examples(records, tmp_path / "rows.arrow")) == whole


def get_peak(method, records, file):
    """Return the bytes of Python objects at their most, and those of Arrow that stay."""
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        examples = method.get_examples(records, file)
        assert len(examples) == len(records)
        return tracemalloc.get_traced_memory()[1], pa.total_allocated_bytes() - arrow
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_rows(config, workspace, monkeypatch):
    monkeypatch.setattr(stored_examples, "CHUNK", 50)
    write_jsonl(PREPARED / "train.jsonl", (chat("why " * 100, f"{i}") for i in range(1000)))
    records = RecordFile.open(PREPARED / "train.jsonl")
    method = get_method(config())
    few, _ = get_peak(method, records.select(range(100)), workspace / "few.arrow")
    many, arrow = get_peak(method, records, workspace / "many.arrow")
    # Python lists of the tokens and their labels would take 10 kB a row.
    assert many - few < 200 * (1000 - 100) and arrow < 1e6


def test_training_maps_the_file_into_memory(config, prepared, tmp_path):
    checked = config()
    trainer = get_trainer(
        get_method(checked),
        *(RecordFile.open(PREPARED / f"{split}.jsonl") for split in ("train", "validation")),
        *(Tracker(checked, None), str(tmp_path / "run")),
    )
    files = [
        data.cache_files[0]["filename"] for data in (trainer.train_dataset, trainer.eval_dataset)
    ]
    assert files == [str(tmp_path / "run" / f"{name}-0.arrow") for name in ("train", "validation")]
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.int64
    assert set(batch) == {"input_ids", "labels", "attention_mask", "position_ids", "row"}
