"""The files of a report: its headline, its rows side by side and its Markdown."""

import pytest

from stages.evaluate.report.page import GITHUB_LIMIT
from stages.evaluate.report.write import get_examples
from tests.evaluate.report.made_up import ATTACK, answered, part


@pytest.mark.parametrize(
    ("better", "worse", "shown"),
    [(15, 15, (10, 10)), (30, 3, (17, 3)), (0, 25, (0, 20)), (2, 1, (2, 1))],
)
def test_twenty_rows_side_by_side(better, worse, shown, bare):
    same = 5
    examples = get_examples(
        bare,
        *answered(
            [True] * better + [False] * worse + [True] * same,
            [False] * better + [True] * (worse + same),
        ),
    )
    assert (len(examples["better"]), len(examples["worse"])) == shown
    assert all(
        row["tuned"] == row["target"] and row["rival_score"] == 0 for row in examples["better"]
    )
    if better > 4:  # four targets: each is shown before any is shown again
        assert {row["target"] for row in examples["better"][:4]} == {"0", "1", "2", "3"}


def test_markdown_fits_a_comment(full, write, workspace):
    full["slices"] = [part(ATTACK[:40], rows=n) for n in range(2000)] + [part("lost", loses=True)]
    write(full)
    text = (workspace / "reports/verdict.md").read_text()
    assert len(text) <= GITHUB_LIMIT and text.rstrip().endswith("</sub>")
    assert "tuned loses on 1" in text and "lost **loses**" in text and "1941 more parts" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert tables[0].startswith("| arm | exact_match | perplexity ↓") and "<script>" not in text
    assert all("0.600" in line and line.count("|") == 6 for line in tables if "label" in line), (
        "no cell ends another"
    )
    assert "@octocat" not in text


def test_markdown_is_cut_however_long_names_are(bare, write, workspace):
    bare["slices"] = [part("*" * 900, rows=n) for n in range(100)]
    write(bare)
    text = (workspace / "reports/verdict.md").read_text()
    assert len(text) <= GITHUB_LIMIT and text.rstrip().endswith("</sub>") and "more parts" in text
