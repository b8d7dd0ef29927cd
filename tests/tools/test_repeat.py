"""Test what counts as the same result. tests/pipeline/test_rivals.py runs the repetition itself."""

import subprocess

import pytest
from rich.console import Console

from stages.core.data.looks import LEDGER
from stages.core.data.verdict import split_report
from stages.core.errors import UserError
from stages.core.storage.files import write_json, write_jsonl
from tests.conftest import ROOT
from tools import repeat
from tools.repeat import find_revision, get_digests, show
from tools.reruns import restore_looks


def results(folder, text="yes", seconds=1.0, value=0.5, weights=b"w"):
    write_jsonl(folder / "predictions/seeds/tuned/43.jsonl", [{"text": text}])
    write_json(folder / "predictions/measured/evaluate/seeds/tuned/43.json", {"seconds": seconds})
    arms = {"tuned": {"value": value, "seconds_per_request": seconds}}
    stable, measured = split_report(
        {"arms": arms, "costs": {"training": seconds}, "looks": {"place": None}}
    )
    write_json(folder / "reports/verdict.json", stable)
    write_json(folder / "reports/measured.json", measured)
    (folder / "models/tuned").mkdir(parents=True, exist_ok=True)
    (folder / "models/tuned/model.safetensors").write_bytes(weights)
    return get_digests(folder)


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ({"seconds": 2.0}, []),
        ({"text": "no"}, ["predictions/seeds/tuned/43.jsonl"]),
        ({"value": 0.6}, ["reports/verdict.json"]),
        (
            {"weights": b"v", "text": "no"},
            ["models/tuned/model.safetensors", "predictions/seeds/tuned/43.jsonl"],
        ),
    ],
)
def test_times_do_not_count_and_all_else_does(tmp_path, capsys, change, differing):
    found = show(Console(width=120), results(tmp_path / "a"), results(tmp_path / "b", **change))
    assert found == differing
    assert f"{3 - len(differing)} of 3 files are the same" in capsys.readouterr().out


def test_a_file_that_is_missing_differs(tmp_path, capsys):
    first = results(tmp_path)
    assert show(Console(width=120), first, {}) == sorted(first)
    assert "missing" in capsys.readouterr().out


def test_a_name_that_nothing_has_is_said(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert len(find_revision("HEAD")) == 40
    with pytest.raises(UserError, match="no-such-name: no such experiment, branch, tag or commit"):
        find_revision("no-such-name")


def test_the_workspace_is_repeated_with_its_edits_and_a_difference_is_an_error(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["repeat"])
    subprocess.run(["git", "init", "-q"], check=True)
    (tmp_path / ".gitignore").write_text("models/\npredictions/\nreports/\n")
    (tmp_path / "params.yaml").write_text("edited, and not committed")
    training = {"determinism": {"what_may_differ": "Nothing."}}
    results(tmp_path)
    write_json(tmp_path / "models/tuned/training.json", training)

    def rerun(folder):
        assert sorted(path.name for path in folder.iterdir()) == [".gitignore", "params.yaml"]
        write_json(folder / "models/tuned/training.json", training)
        results(folder, text="no")

    monkeypatch.setattr(repeat, "rerun", rerun)
    with pytest.raises(SystemExit, match="1"):
        repeat.main()
    said = capsys.readouterr().out
    assert said.count("different") == 1 and "What may differ on this machine: Nothing." in said
    (tmp_path / "predictions/seeds/tuned/43.jsonl").unlink()
    with pytest.raises(SystemExit, match="1"):
        repeat.main()
    assert "missing" in capsys.readouterr().out


def test_a_repetition_has_the_looks_up_to_those_of_the_verdict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in (1, 2, 3):
        write_json(LEDGER / f"split/{place}.json", {"place": place})
    # The commit of the experiment has a look of a later model.
    write_json(tmp_path / "again" / LEDGER / "split/9.json", {"place": 9})
    restore_looks(2, tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "again").rglob("*.json")) == [
        "1.json",
        "2.json",
    ]
