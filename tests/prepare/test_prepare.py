import json
import os
import signal
import subprocess
import sys

import pytest

from stages.core.data.records import read_records
from stages.prepare.__main__ import main
from tests.conftest import ROOT, TINY, compose_config
from tests.prepare.rows import write


def many(count):
    return [{"prompt": f"q{n}", "completion": "a"} for n in range(count)]


def test_the_stage_writes_three_splits_and_its_numbers(workspace):
    write(workspace / "rows.jsonl", *many(60), many(1)[0])
    main(compose_config(*TINY))
    numbers = json.loads((workspace / "metrics/prepare.json").read_text())
    assert numbers["rows"] == 61 and numbers["findings"] == {"duplicate": 1}
    assert numbers["format"] == "prompt-completion"
    assert sum(len(read_records(split)) for split in ("train", "validation", "test")) == 60
    assert len((workspace / "data/prepared/findings.jsonl").read_text().splitlines()) == 1
    before = (workspace / "data/prepared/test.jsonl").read_bytes()
    main(compose_config(*TINY))
    assert (workspace / "data/prepared/test.jsonl").read_bytes() == before


def test_mistakes_stop_it_with_counts_and_first_rows_and_leave_the_whole_list(workspace):
    write(workspace / "rows.jsonl", *many(60), *[{"prompt": n} for n in range(12)], b"{")
    with pytest.raises(SystemExit) as stop:
        main(compose_config(*TINY))
    said = str(stop.value)
    assert (
        "error unknown_format: 12" in said and "and 7 more" in said and "error bad_json: 1" in said
    )
    assert "rows.jsonl:61: columns prompt; expected prompt and completion" in said
    assert len((workspace / "reports/findings.jsonl").read_text().splitlines()) == 13
    assert not (workspace / "data").exists() or not list((workspace / "data").iterdir())


def test_rows_with_mistakes_can_be_left_out_counted(workspace):
    write(workspace / "rows.jsonl", *many(60), {"prompt": 1}, b"{")
    main(compose_config(*TINY, "checks=lenient"))
    numbers = json.loads((workspace / "metrics/prepare.json").read_text())
    assert numbers["findings"] == {"unknown_format": 1, "bad_json": 1}
    assert numbers["train"] + numbers["validation"] + numbers["test"] == 60


def test_too_few_rows_stop_it_also_when_lenient(workspace):
    write(workspace / "rows.jsonl", *many(9))
    with pytest.raises(SystemExit, match=r"9 valid rows; give at least 10"):
        main(compose_config(*TINY, "checks=lenient"))


def test_an_empty_split_is_refused(workspace):
    write(workspace / "rows.jsonl", *many(10))
    with pytest.raises(SystemExit, match="leaves no rows for"):
        main(compose_config(*TINY, "data.split.validation=0.001"))


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "there is no such file"), (b"{", "error bad_json: 1"), (b"", "0 valid rows")],
)
def test_a_failed_run_is_one_message_and_keeps_the_earlier_output(workspace, content, said):
    write(workspace / "rows.jsonl", *many(60))
    main(compose_config(*TINY))
    before = (workspace / "data/prepared/train.jsonl").read_bytes()
    (workspace / "rows.jsonl").unlink() if content is None else (
        workspace / "rows.jsonl"
    ).write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        main(compose_config(*TINY))
    assert (
        str(stop.value).startswith("\nprepare: ")
        and said in str(stop.value)
        and "rows" in str(stop.value)
    )
    assert (workspace / "data/prepared/train.jsonl").read_bytes() == before


def test_a_full_disk_is_one_message_and_nothing_half_written(workspace, monkeypatch):
    write(workspace / "rows.jsonl", *many(60))
    monkeypatch.setattr(
        "stages.prepare.splits.SplitFiles.write",
        lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(SystemExit, match="No space left on device"):
        main(compose_config(*TINY))
    assert not list((workspace / "data").rglob("*.jsonl"))


def test_prepare_runs_without_torch(workspace):
    write(workspace / "rows.jsonl", *many(60))
    arguments = [*TINY, "tracking=disabled"]
    code = (
        "import runpy, sys\n"
        f"sys.modules['torch'], sys.argv = None, ['prepare', *{arguments!r}]\n"  # as if it were not installed
        "runpy.run_module('stages.prepare', run_name='__main__')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=workspace,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (workspace / "reports/preview.html").exists()


KILL = """
import os, pathlib, re, runpy, signal, sys
from stages.core.data.records import Record

name, point = sys.argv[1:3]
owner = Record if name == "dump" else pathlib.Path
whole, calls = getattr(owner, name), []

def call_or_die(*given):
    calls.append(given)
    names = (str(len(calls)), *(pathlib.Path(target).name for target in given[1:]))
    if any(re.fullmatch(point, name) for name in names):
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*given)

setattr(owner, name, call_or_die)
sys.argv[:] = sys.argv[:1] + sys.argv[3:]
runpy.run_module("stages.prepare", run_name="__main__")
"""
POINTS = (  # the size of the output that is made, where that is killed, and the size of the output that is there then
    (600, "dump", "1", 60),  # no record is written yet
    (600, "dump", "400", 60),
    (600, "rename", r"\.prepared\..*\.aside", 60),  # all are
    (600, "replace", "preview.html", 600),  # they are in their place, but there is no report
    (
        60,
        "rename",
        "prepared",
        600,
    ),  # the earlier ones have stepped aside, and the new ones are not in their place
)


def state(folder):
    there = folder / "data/prepared"
    return {
        p.name: p.read_bytes()
        for p in (
            there if there.exists() else next(folder.glob("data/.prepared.*.aside"))
        ).iterdir()
    }


def test_a_killed_run_leaves_the_earlier_outputs_whole(workspace):
    """Wherever it is killed, the outputs are the earlier ones or the new ones."""

    def run(size, *command):
        write(workspace / "rows.jsonl", *many(size))
        given = [sys.executable, *command, *TINY, "tracking=disabled"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        status = subprocess.run(
            given, cwd=workspace, env=environment, capture_output=True, check=False
        ).returncode
        return status, state(workspace)

    whole = {size: run(size, "-m", "stages.prepare") for size in (600, 60)}
    assert all(status == 0 for status, _ in whole.values())
    for size, name, point, left in POINTS:
        assert run(size, "-c", KILL, name, point) == (-signal.SIGKILL, whole[left][1]), point
    assert run(60, "-m", "stages.prepare") == whole[60]
    assert [path.name for path in (workspace / "data").iterdir()] == ["prepared"]
