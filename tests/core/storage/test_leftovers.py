"""What killed processes leave is removed, and what living ones write is not."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from stages.core.storage.files import atomic_directory, atomic_write
from stages.core.storage.leftovers import (
    ASIDE,
    PARTIAL,
    _get_host,
    remove_leftovers,
    temporary_path,
)

NAME = """
import sys
from pathlib import Path
from stages.core.storage.leftovers import temporary_path
print(temporary_path(Path(sys.argv[1]), "KIND"))
"""


@pytest.fixture
def of_killed(tmp_path):
    """Return a function that gives the temporary path of a process that has ended."""
    said = subprocess.run(
        [sys.executable, "-c", NAME, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    return lambda kind: tmp_path / said.stdout.strip().replace("KIND", kind)


def test_what_a_killed_process_left_is_removed(tmp_path, of_killed):
    of_killed(PARTIAL).mkdir()
    (of_killed(PARTIAL) / "half").write_text("x")
    with atomic_directory(tmp_path / "out") as folder:
        (folder / "a").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_a_folder_that_a_killed_process_left_aside_comes_back(tmp_path, of_killed):
    target = tmp_path / "out"
    of_killed(ASIDE).mkdir()
    (of_killed(ASIDE) / "file").write_text("earlier")
    with pytest.raises(RuntimeError), atomic_directory(target):
        raise RuntimeError
    assert (target / "file").read_text() == "earlier"
    with atomic_directory(target) as folder:
        (folder / "file").write_text("later")
    assert (target / "file").read_text() == "later"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_machine_whose_name_has_dots_finds_what_it_left(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "Anns-Laptop.local")
    aside = temporary_path(tmp_path / "out", ASIDE)
    gone = aside.with_name(aside.name.replace(f"~{os.getpid()}.", f"~{2**22 + 1}."))
    gone.mkdir()
    (gone / "file").write_text("earlier")
    with pytest.raises(RuntimeError), atomic_directory(tmp_path / "out"):
        raise RuntimeError
    assert (tmp_path / "out/file").read_text() == "earlier"


def test_a_container_that_starts_again_has_the_same_process_id(tmp_path):
    temporary_path(tmp_path / "out", PARTIAL).mkdir()
    with atomic_directory(tmp_path / "out") as folder:
        (folder / "a").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_folder_of_a_living_process_stays(tmp_path):
    alive = temporary_path(tmp_path / "out", PARTIAL)
    parent = alive.with_name(alive.name.replace(str(os.getpid()), str(os.getppid())))
    elsewhere = alive.with_name(alive.name.replace(_get_host(), "elsewhere"))
    for path in (parent, elsewhere):
        path.mkdir()
    with atomic_directory(tmp_path / "out"):
        pass
    remove_leftovers(tmp_path)
    assert parent.exists() and elsewhere.exists()
    os.utime(elsewhere, (0, 0))  # no process of another machine writes for years
    remove_leftovers(tmp_path)
    assert parent.exists() and not elsewhere.exists()


def test_files_left_below_a_folder_are_removed_and_others_are_not(tmp_path, of_killed):
    (tmp_path / "below").mkdir()
    left = tmp_path / "below" / of_killed(PARTIAL).name
    kept = [tmp_path / ".mine.partial", tmp_path / "out.partial", tmp_path / "below/out"]
    for path in (left, *kept):
        path.write_text("x")
    remove_leftovers(tmp_path)
    assert not left.exists() and all(path.exists() for path in kept)


def test_a_target_whose_name_begins_like_another_keeps_its_temporary_folder(tmp_path, of_killed):
    of_killed(PARTIAL).mkdir()
    with atomic_directory(tmp_path / "ou"):
        pass
    assert of_killed(PARTIAL).exists()


def test_two_writers_of_one_folder_never_mix_it(tmp_path, monkeypatch):
    """Each writes two files with its own number, and both replace the folder again and again."""
    target = tmp_path / "out"
    names = iter(range(1000))
    # Threads stand for processes, whose temporary folders have other names.
    number = threading.local()
    monkeypatch.setattr(
        "stages.core.storage.files.temporary_path",
        lambda target, kind: target.with_name(f".{target.name}.{number.value}.{kind}"),
    )
    seen = []

    def write(writer):
        number.value = writer
        for _ in range(100):
            value = str(next(names))
            with atomic_directory(target) as folder:
                (folder / "rows").write_text(value)
                (folder / "numbers").write_text(value)
        seen.append(writer)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(seen) == [1, 2]
    assert (target / "rows").read_text() == (target / "numbers").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_is_written_beside_its_target(tmp_path, of_killed):
    of_killed(PARTIAL).write_text("half")
    atomic_write(tmp_path / "out", b"whole")
    assert (tmp_path / "out").read_bytes() == b"whole"
