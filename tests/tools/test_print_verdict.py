"""What the verdict prints on a terminal."""

import shutil
import sys

import pytest

from stages.core.data.verdict import write_verdict
from stages.core.errors import printable
from stages.core.storage.files import write_json
from tests.conftest import ROOT
from tests.evaluate.report.made_up import make_full_report, part
from tools import verdict

HOSTILE = "\x1b]52;c;cm0=\x07[red]\u202egpj[/bold]"


@pytest.fixture
def said(workspace, monkeypatch, capsys):
    """Print the verdict about hostile rows, of which a single group says nothing about a bound."""
    shutil.copy(ROOT / "params.yaml", workspace)
    report = make_full_report()
    report["warnings"] = [f"few_shot gives the same answer, {HOSTILE}, to 97% of the rows."]
    report["slices"] = [part(HOSTILE, loses=True)]
    report["comparisons"][0] |= {"ci_low": None, "ci_high": None, "bound_low": None}
    write_verdict(report)
    conditions = [
        {"passed": False, "sentence": f"too few: {HOSTILE}"},
        {"passed": True, "sentence": "fine"},
    ]
    outcome = {"outcome": f"not registered: {HOSTILE}", "conditions": conditions}
    write_json(workspace / "metrics/register.json", outcome)
    monkeypatch.setattr(verdict, "complete", lambda config: None)
    monkeypatch.setattr(sys, "argv", ["verdict"])
    verdict.main()
    return capsys.readouterr().out


def test_texts_of_rows_are_neither_obeyed_nor_read_as_markup(said):
    assert printable(said) == said
    shown = " ".join(said.split())
    assert shown.count(r"\x1b]52;c;cm0=\x07[red]\u202egpj[/bold]") == 4
    assert "Verdict: fine-tune. Yes, fine-tune: use tuned." in shown
    assert "Loses on label" in shown and "tuned - few_shot" in shown
    assert "(unknown to unknown)" in shown
    assert "failed: too few" in shown and "fine" not in shown.split("Registry:")[1]
