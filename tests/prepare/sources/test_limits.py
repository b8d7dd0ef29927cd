"""Test that neither a row nor an archive fills the memory, and that what is too large is named."""

import bz2
import csv
import gzip
import json
import lzma
import tracemalloc

import pyarrow
import pytest
from pyarrow import parquet

from stages.core.errors import UserError
from stages.prepare.reading import Placed
from stages.prepare.splits import BATCH, BATCH_BYTES, SplitFiles
from tests.prepare.rows import ANSWER, CHAT, QUESTION, read, write

LARGE = {"messages": [{**QUESTION, "content": "a" * 2_000}, ANSWER]}
SMALL = [{"messages": [{**QUESTION, "content": f"q{i}"}, ANSWER]} for i in range(3)]
LIMIT = "checks.max_row_bytes=1000"


def codes(findings):
    return [(finding.code, finding.line) for finding in findings]


def test_a_row_over_the_limit_is_named_with_its_line_and_the_key(config, tmp_path):
    path = write(tmp_path / "rows.jsonl", SMALL[0], b"", LARGE, LARGE, SMALL[1], b"{", SMALL[2])
    records, findings, _ = read(config, path, LIMIT)
    assert len(records) == 3
    assert codes(findings) == [("too_many_bytes", 3), ("too_many_bytes", 4), ("bad_json", 6)]
    assert (
        "more than 1,000 bytes" in findings[0].found and "checks.max_row_bytes" in findings[0].todo
    )


def test_the_limit_is_exact(config, tmp_path):
    line = json.dumps(LARGE).encode()
    path = write(tmp_path / "rows.jsonl", line, CHAT)
    assert len(read(config, path, f"checks.max_row_bytes={len(line) + 1}")[0]) == 2
    assert codes(read(config, path, f"checks.max_row_bytes={len(line)}")[1]) == [
        ("too_many_bytes", 1)
    ]


def test_a_paragraph_of_many_lines_is_one_row(config, tmp_path):
    path = tmp_path / "rows.txt"
    lines = ["a small one", "", *["a line of a large one"] * 100, "", "b", "", *"x" * 3]
    path.write_text("\n".join(lines))
    records, findings, _ = read(config, path, LIMIT, "train.record_types=[text]")
    assert [record.target for record in records] == ["a small one", "b", "x\nx\nx"]
    assert codes(findings) == [("too_many_bytes", 3)]


def test_many_blank_lines_are_no_row(config, tmp_path):
    path = write(tmp_path / "rows.jsonl", CHAT, *[b"  "] * 5_000, SMALL[0])
    assert len(read(config, path, LIMIT)[0]) == 2


def test_a_row_of_a_table_with_many_lines_is_limited(config, tmp_path):
    path = tmp_path / "rows.csv"
    with path.open("w") as file:
        csv.writer(file).writerows([("text", "label"), ("q", "a"), ("r", "b")])
    before = path.read_text()
    path.write_text(before + '"' + "never closed\n" * 1_000)
    records, findings, _ = read(config, path, LIMIT)
    assert len(records) == 2 and codes(findings) == [("too_many_bytes", 4)]
    path.write_text(f"{before}{'c' * 2_000},d\ne,f\n")
    records, findings, _ = read(config, path, LIMIT)
    assert len(records) == 3 and codes(findings) == [("too_many_bytes", 4)]


@pytest.mark.parametrize("rows", [[LARGE, *SMALL], [*SMALL, LARGE]])
def test_rows_of_files_without_lines_are_limited_too(config, tmp_path, rows):
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for name in ("rows.json", "rows.parquet"):
        records, findings, _ = read(config, tmp_path / name, LIMIT)
        assert len(records) == 3
        assert codes(findings) == [("too_many_bytes", rows.index(LARGE) + 1)]


@pytest.mark.parametrize(
    ("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
@pytest.mark.parametrize("kind", ["jsonl", "csv", "txt"])
def test_an_archive_of_one_endless_line_gets_a_finding(config, tmp_path, ending, pack, kind):
    path = tmp_path / f"rows.{kind}.{ending}"
    path.write_bytes(pack(b"text,label\n" * (kind == "csv") + bytes(50_000_000)))
    tracemalloc.start()
    records, findings, _ = read(config, path, LIMIT, "train.record_types=[text,chat]")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert records == [] and findings[0].code == "too_many_bytes"
    assert peak < 20_000_000


def test_an_archive_that_is_read_whole_gets_a_message(config, tmp_path):
    path = tmp_path / "rows.json.gz"
    path.write_bytes(gzip.compress(bytes(2_000_000)))
    with pytest.raises(UserError, match=r"1,000,000 bytes.*checks\.max_whole_file_bytes"):
        read(config, path, "checks.max_whole_file_bytes=1000000")


def test_batches_are_limited_by_bytes_and_by_rows(tmp_path):
    from stages.core.data.records import Record

    files = SplitFiles(tmp_path)
    sizes = [1_000_000] * 10 + [1] * (BATCH + 10)
    made = (
        Record.of([{**QUESTION, "content": f"{i} " + "a" * size}, ANSWER])
        for i, size in enumerate(sizes)
    )
    files.write(Placed(record, "train", "rows.jsonl", i) for i, record in enumerate(made))
    batches = list(files.batches("train"))
    assert sum(map(len, batches)) == len(sizes)
    assert max(map(len, batches)) <= BATCH
    largest = max(sum(len(record.dump()) for record in batch) for batch in batches)
    assert largest <= BATCH_BYTES + 1_100_000
