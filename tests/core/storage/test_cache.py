import os

import pytest

from stages.core.errors import UserError
from stages.core.storage import cache
from stages.core.storage.cache import cached_folder, get_sha256


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill(folder):
    (folder / "sub").mkdir()
    (folder / "sub/rows.jsonl").write_text("abc")
    (folder / "weights").write_bytes(b"1234")


def never(folder):
    raise AssertionError("filled twice")


def edit(path, data):
    """Change a file as another process would have at another time."""
    path.write_bytes(data)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


def test_a_folder_is_filled_once_and_checked_on_each_use():
    folder = cached_folder("a/b", fill)
    assert cached_folder("a/b", never) == folder
    assert get_sha256(folder / "weights").startswith("03ac674216f3e15c")


@pytest.mark.parametrize("name", ["sub/rows.jsonl", "weights"])
def test_a_changed_file_is_refused_and_named(name):
    folder = cached_folder("a", fill)
    before = (folder / name).read_bytes()
    edit(folder / name, bytes([before[0] ^ 1]) + before[1:])
    with pytest.raises(
        UserError, match=rf"{folder / name}: .*was recorded.*Delete the folder {folder}"
    ):
        cached_folder("a", never)
    edit(folder / name, before[:-1])
    with pytest.raises(UserError, match="was recorded when it was written"):
        cached_folder("a", never)
    edit(folder / name, before)
    assert cached_folder("a", never)


def test_a_file_more_or_less_is_refused():
    folder = cached_folder("a", fill)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"adapter_config\.json: this file of the cache was added"):
        cached_folder("a", never)
    (folder / "adapter_config.json").unlink()
    (folder / "weights").unlink()
    with pytest.raises(UserError, match="weights: this file of the cache was removed"):
        cached_folder("a", never)


@pytest.mark.parametrize("text", ["", "[]", '{"weights": '])
def test_a_damaged_list_is_refused(text):
    folder = cached_folder("a", fill)
    (folder / cache.LIST).write_text(text)
    with pytest.raises(UserError, match="Delete the folder"):
        cached_folder("a", never)


def test_a_folder_without_a_list_is_filled_anew():
    folder = cached_folder("a", fill)
    (folder / cache.LIST).unlink()
    (folder / "weights").write_bytes(b"xxxx")
    assert (cached_folder("a", fill) / "weights").read_bytes() == b"1234"


def test_the_files_are_hashed_once_in_a_process(monkeypatch):
    hashed = []
    whole = cache.sha256_file
    monkeypatch.setattr(cache, "sha256_file", lambda path: hashed.append(path) or whole(path))
    folder = cached_folder("a", fill)
    hashed.clear()
    for _ in range(3):
        get_sha256(cached_folder("a", never) / "weights")
    assert len(hashed) <= 1 and folder / cache.LIST not in hashed


def test_a_folder_that_changes_is_not_checked():
    folder = cached_folder("a", lambda _: None, constant=False)
    (folder / "new").write_text("x")
    assert cached_folder("a", never, constant=False) == folder


def test_a_cache_that_cannot_be_written_is_one_message(root):
    root.write_text("a file in place of the folder")
    with pytest.raises(UserError, match=r"the cache cannot be written: .*Set TUNEPROOF_CACHE"):
        cached_folder("a", fill)
    with pytest.raises(UserError, match="the cache cannot be written"):
        cached_folder("replies/a", lambda _: None, constant=False)


def test_a_filled_cache_may_be_read_only(monkeypatch):
    folder = cached_folder("a", fill)

    def refuse(*_, **__):
        raise PermissionError(13, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert cached_folder("a", never) == folder
    with pytest.raises(UserError, match="Read-only file system"):
        cached_folder("b", fill)
