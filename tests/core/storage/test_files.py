import pytest

from stages.core.errors import UserError
from stages.core.storage.files import atomic_directory, atomic_write, read_json, write_jsonl


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "out"
    with atomic_directory(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_directory(target) as folder:
        (folder / "a").write_text("half")
        raise RuntimeError
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failed_write_keeps_the_earlier_file(tmp_path, monkeypatch):
    target = tmp_path / "a.json"
    atomic_write(target, b"old")
    monkeypatch.setattr(
        "pathlib.Path.replace",
        lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.json'"):
        atomic_write(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_jsonl_keeps_unicode_and_line_breaks_inside_a_row(tmp_path):
    from stages.core.storage.files import read_jsonl

    rows = [{"text": "a\nb\u2028c"}, {"text": "é"}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    assert read_jsonl(tmp_path / "a.jsonl") == rows


def test_a_missing_file_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match="dvc repro"):
        read_json(tmp_path / "none.json")
