"""Real files with real mistakes, and for each of them every finding that its owner must get."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Literal, get_origin

import pytest

from stages.core.config.data import ChecksConfig
from stages.core.errors import UserError
from tests.prepare.rows import read

FOLDER = Path(__file__).parent / "malformed"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
SECRETS = ("AKIAIOSFODNN7EXAMPLE", "BEGIN RSA PRIVATE KEY", "example-password")
# What a tokenizer or a second look at all rows finds.
LATER = {"too_long", "template_refuses", "no_end_token", "unseen_tools", "near_duplicate", "leak"}
LATER |= {"few_test_rows", "frequent_target", "too_many_bytes", "control_token"}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_mistake_of_a_file_is_found_where_it_is(config, tmp_path, name):
    wanted = EXPECTED[name]
    path = shutil.copy(FOLDER / name, tmp_path)
    if "error" in wanted:
        with pytest.raises(UserError, match=wanted["error"]) as raised:
            read(config, path, *wanted["overrides"])
        assert name in str(raised.value)
        return
    records, findings, reader = read(config, path, *wanted["overrides"])
    assert sorted([f.code, f.line, f.field] for f in findings) == sorted(wanted["findings"])
    assert len(records) == reader.records
    for finding in findings:
        assert finding.found and finding.todo
        assert finding.file.endswith(name) if finding.line else finding.file == "chat-jsonl"
        assert not any(secret in finding.found + finding.todo for secret in SECRETS)
    if "says" in wanted:
        assert any(re.search(wanted["says"], finding.found) for finding in findings)


def test_the_files_are_those_that_are_expected():
    files = {path.name for path in FOLDER.iterdir() if not path.name.startswith(".")}
    assert files - {"expected.json"} == set(EXPECTED) and len(EXPECTED) >= 60


def test_every_code_that_one_pass_gives_is_in_a_file():
    codes = {
        name
        for name, field in ChecksConfig.model_fields.items()
        if get_origin(field.annotation) is Literal
    }
    seen = Counter(code for wanted in EXPECTED.values() for code, *_ in wanted.get("findings", []))
    assert set(seen) == codes - LATER
