import json

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from stages.core.config.schema import parse
from stages.core.data.records import Record
from tests.conftest import compose_config
from tests.prepare.rows import read, write
from tests.prepare.sources.test_source import read_all

TOKENS = ["Ann", "Lee", "flew", "to", "Rome", "."]
TAGS = ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]
RECORD = Record.of(
    [
        {"role": "user", "content": "Ann Lee flew to Rome ."},
        {"role": "assistant", "content": "[Ann Lee - PER, Rome - LOC]"},
    ]
)


@pytest.mark.parametrize("column", ["ner_tags", "tags"])
def test_tokens_with_tags_become_a_question_and_a_list(config, tmp_path, column):
    rows = [{"tokens": TOKENS, column: TAGS}, {"tokens": ["Nobody", "came"], column: ["O", "O"]}]
    records, findings, reader = read(config, write(tmp_path / "rows.jsonl", *rows))
    assert findings == [] and reader.format == "tokens"
    assert records[0] == RECORD and records[1].target == "No entities found"


def test_a_table_keeps_them_as_json_text_and_columns_may_have_other_names(config, tmp_path):
    path = tmp_path / "rows.csv"
    cells = [json.dumps(value).replace('"', '""') for value in (TOKENS, TAGS)]
    path.write_text('words,labels\n"{}","{}"\n'.format(*cells))
    records, findings, _ = read(
        config, path, "+data.column_mapping={tokens: words, ner_tags: labels}"
    )
    assert (records, findings) == ([RECORD], [])


def test_a_wrong_tag_is_named_as_the_file_names_its_column(config, tmp_path):
    path = write(tmp_path / "rows.jsonl", {"tokens": TOKENS, "labels": [*TAGS[:-1], "PER"]})
    _, [finding, _], _ = read(config, path, "+data.column_mapping={tags: labels}")
    assert (finding.code, finding.field, finding.found) == ("bad_tags", "labels[5]", "tag 'PER'")


def test_an_entity_that_begins_with_i_is_one_too(config, tmp_path):
    tags = [
        "I-PER",
        "I-PER",
        "O",
        "O",
        "I-LOC",
        "O",
    ]  # the scheme of CoNLL-2003 as it was published
    assert read(config, write(tmp_path / "rows.jsonl", {"tokens": TOKENS, "tags": tags}))[0] == [
        RECORD
    ]


def test_numbers_are_named_by_the_features_of_a_data_set(tmp_path):
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    features = Features(
        {"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))}
    )
    numbers = [names.index(tag) for tag in TAGS]
    (tmp_path / "hub").mkdir()
    rows = {"tokens": [TOKENS, ["Who"]], "ner_tags": [numbers, [-1]]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "hub/train.parquet")
    checked = parse(
        compose_config("data=hub", "model=tiny-random", f"data.source.id={tmp_path / 'hub'}")
    )
    placed, findings, _ = read_all(checked, tmp_path)
    assert [row.record for row in placed] == [RECORD]
    assert findings.counts == {"bad_tags": 1, "too_few_rows": 1}
