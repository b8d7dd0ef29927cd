import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core.errors import UserError
from stages.core.records import Record
from stages.prepare.formats import COLUMNS
from tests.prepare.rows import ANSWER, CHAT, QUESTION, read, write

FORMS = {
    "chat": CHAT,
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "evals": {"input": [QUESTION], "ideal": "a"},
    "prompt-completion": {"prompt": "q", "completion": "a"},
    "instruction": {"instruction": "q", "input": "", "output": "a"},
    "labelled": {"text": "q", "label": "a"},
}
VARIANTS = [
    *FORMS.items(),
    ("evals", {"input": "q", "ideal": ["a", "b"]}),
    ("prompt-completion", {"prompt": [QUESTION], "completion": [ANSWER]}),
    ("chat", {"messages": [{**QUESTION, "name": "x"}, {**ANSWER, "weight": 1}]}),
]


@pytest.mark.parametrize(("name", "row"), VARIANTS)
def test_every_format_is_detected_and_becomes_the_same_record(config, tmp_path, name, row):
    records, findings, reader = read(config, write(tmp_path / "rows.jsonl", row))
    assert (records, findings, reader.format) == ([Record.of(CHAT["messages"])], [], name)


def test_the_formats_in_the_schema_are_those_that_there_are(config):
    assert set(FORMS) == set(COLUMNS)
    for name in COLUMNS:
        assert config(f"data.format={name}").data.format == name


def test_an_instruction_takes_its_input_and_its_system(config, tmp_path):
    row = {"instruction": "Add.", "input": "1 2", "output": "3", "system": "You count."}
    records, *_ = read(config, write(tmp_path / "rows.jsonl", row))
    assert [message["content"] for message in records[0].messages] == ["You count.", "Add.\n\n1 2", "3"]


def test_columns_of_other_names_are_mapped(config, tmp_path):
    path = write(tmp_path / "rows.jsonl", {"frage": "q", "antwort": "a"})
    assert read(config, path)[1][0].code == "unknown_format"
    records, findings, _ = read(config, path, "+data.columns={prompt: frage, completion: antwort}")
    assert (records, findings) == ([Record.of(CHAT["messages"])], [])


def test_a_developer_is_a_system(config, tmp_path):
    row = {"messages": [{"role": "developer", "content": "s"}, *CHAT["messages"]]}
    assert read(config, write(tmp_path / "rows.jsonl", row))[0][0].messages[0] == {"role": "system", "content": "s"}


ROWS = [{"text": f"q{n}, or\nnot", "label": "é"} for n in range(3)]


def csv_of(rows, delimiter):
    lines = [delimiter.join(rows[0]), *(delimiter.join(f'"{value}"' for value in row.values()) for row in rows)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_container_gives_the_same_rows(config, tmp_path, kind, packed, bom):
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "x")
        content, bom = (tmp_path / "x").read_bytes(), b""
    else:
        texts = {"csv": csv_of(ROWS, ","), "tsv": csv_of(ROWS, "\t"), "json": json.dumps(ROWS).encode()}
        content = texts.get(kind) or b"\n".join(json.dumps(row).encode() for row in ROWS)
    path = tmp_path / f"rows.{kind}{packed}"
    path.write_bytes(gzip.compress(bom + content) if packed else bom + content)
    records, findings, _ = read(config, path)
    assert findings == []
    assert [(r.prompt[0]["content"], r.target) for r in records] == [(row["text"], "é") for row in ROWS]


def test_a_glob_is_read_in_the_order_of_names(config, tmp_path):
    for name in ("b", "a"):
        write(tmp_path / f"{name}.jsonl", {"prompt": name, "completion": "x"}, {"prompt": 1})
    records, findings, _ = read(config, f"'{tmp_path}/*.jsonl'")
    assert [record.prompt[0]["content"] for record in records] == ["a", "b"]
    assert [(finding.file, finding.line) for finding in findings] == [("a.jsonl", 2), ("b.jsonl", 2)]


def test_a_container_that_is_not_known_is_named(config, tmp_path):
    (tmp_path / "rows.xlsx").write_bytes(b"x")
    with pytest.raises(UserError, match=r"expected \.jsonl, \.json, \.csv"):
        read(config, tmp_path / "rows.xlsx")
