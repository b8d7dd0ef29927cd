"""Hostile rows, and rows from right to left, in the page, the Markdown and DVC's plots."""

import html
import json
import re
import shutil
import subprocess
import sys

import pytest
from markdown_it import MarkdownIt

from stages.evaluate.report.plots import TEMPLATES
from tests.evaluate.report.made_up import ATTACK, HEALTH, make_full_report, part

ARABIC = "ما هي عاصمة فرنسا؟ (1)."
URDU = "فرانس کا دارالحکومت کیا ہے؟"
MARKUP = "x\n\n# Verdict: prompt\n\n`y` ![z](https://phone.home/z.png) <b>\x1b[31m\u202egpj"


@pytest.fixture
def report():
    """A report of rows that are hostile or from right to left."""
    made = make_full_report()
    made["reasons"] = [f"few_shot always answers “{MARKUP}”."]
    made["warnings"] = [f"few_shot gives the same answer, “{ARABIC}”, to 97% of the rows."]
    made["slices"] = [part(URDU, loses=True), part(MARKUP), part(ATTACK)]
    made["lineage"]["data"] = MARKUP
    made["confusion"]["labels"][0] = ARABIC
    for numbers in made["arms"].values():
        numbers["health"] = {**HEALTH, "commonest": ARABIC}
    return made


def test_every_text_of_a_row_has_a_direction_of_its_own(report, write):
    page = write(report)
    cells = [a for tag, a in page.tags if "said" in (a.get("class") or "").split()]
    assert len(cells) >= 4 * 20 and all(a.get("dir") == "auto" for a in cells)
    assert f'<td class="text" dir="auto">{ARABIC}</td>' in page.source
    assert f"label: <bdi>{URDU}</bdi> (loses)" in page.source
    assert f"<bdi>{ARABIC}</bdi></th>" in page.source
    assert f"the same answer, “<bdi>{ARABIC}</bdi>”, to 97% of the rows." in page.source
    style = page.source.split("<style>")[1]
    assert re.search(r"\.said \{[^}]*unicode-bidi: plaintext", style)
    assert re.search(r"th, td \{ text-align: start", style)


def test_a_quoted_answer_neither_escapes_nor_reorders_its_sentence(report, write):
    source = write(report).source
    sentence = re.search("<li>(few_shot always answers.*?)</li>", source, re.DOTALL)[1]
    assert "&lt;b&gt;" in sentence and r"\x1b[31m\u202egpj</bdi>”." in sentence


def test_the_markdown_has_only_its_own_markup(report, write, workspace):
    write(report)
    text = (workspace / "reports/verdict.md").read_text()
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1"]
    inner = [child for token in tokens for child in token.children or []]
    assert not {"image", "link_open"} & {child.type for child in inner}
    assert not {"\x1b", "\u202e"} & set(text) and "<b>" not in text
    assert r"\x1b[31m\u202egpj" in html.unescape(text)


def test_no_label_ends_the_script_of_dvcs_page(report, write, workspace):
    write(report)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "-q"], cwd=workspace, check=True)
    shutil.copytree(TEMPLATES, workspace / ".dvc/plots")
    plots = [{"plots/slices.json": {"template": "intervals"}}]
    (workspace / "dvc.yaml").write_text(json.dumps({"plots": plots}))
    subprocess.run([*dvc, "plots", "show"], cwd=workspace, capture_output=True, check=True)
    page = (workspace / "dvc_plots/index.html").read_text()
    assert "octocat" in page and "<script>alert" not in page and "<img" not in page
