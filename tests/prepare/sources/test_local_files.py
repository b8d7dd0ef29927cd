import os
import socket
from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.prepare.sources.local_files import is_local
from tests.prepare.rows import CHAT, read, write


@pytest.mark.parametrize("name", ["rows.jsonl", "*.jsonl", "file://{}/rows.jsonl"])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a pipe"),
        (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (Path.mkdir, "a folder"),
    ],
)
def test_what_is_no_file_is_refused_at_once(config, tmp_path, monkeypatch, name, make, kind):
    monkeypatch.chdir(tmp_path)  # the path of a socket may have some hundred characters only
    write(tmp_path / "a.jsonl", CHAT)
    make(Path("rows.jsonl"))
    with pytest.raises(UserError, match=rf"rows\.jsonl: this is {kind}, not a file"):
        read(config, name.format(tmp_path))


@pytest.mark.parametrize(
    "name",
    ["a::b.jsonl", "a#b.jsonl", "a?b.jsonl", "a[1].jsonl", "~a.jsonl", "file:a.jsonl", "a*.jsonl"],
)
def test_a_file_is_read_by_its_own_name_whatever_that_means_elsewhere(
    config, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name, CHAT)
    write(tmp_path / "ab.jsonl", {"prompt": "another", "completion": "file"})
    for path in (name, tmp_path / name):
        records, findings, _ = read(config, path)
        assert findings == [] and [record.target for record in records] == ["a"]


def test_a_tilde_is_the_home_folder(config, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "rows.jsonl", CHAT)
    assert len(read(config, "~/rows.jsonl")[0]) == len(read(config, "~/*.jsonl")[0]) == 1
    for missing in ("~/none.jsonl", "~nobody-of-this-name/rows.jsonl"):
        with pytest.raises(UserError, match=f"^{missing}: there is no such file"):
            read(config, missing)


def test_a_link_to_nothing_is_named(config, tmp_path):
    (tmp_path / "rows.jsonl").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"rows\.jsonl: .*No such file"):
        read(config, tmp_path / "*.jsonl")


def test_urls_are_not_local():
    assert is_local("a::b") and is_local("file:///a.jsonl") and not is_local("https://a/b.jsonl")
    assert not is_local("zip://a.jsonl::b.zip")
