"""The plots of the report, which DVC shows too."""

import json
import shutil
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from stages.core.data.verdict import read_verdict
from stages.evaluate.report.intervals import SLICES
from stages.evaluate.report.plots import (
    LABELS,
    TEMPLATE_OF,
    TEMPLATES,
    fill_template,
    fold_labels,
    get_plots,
)
from tests.conftest import ROOT
from tests.evaluate.report.made_up import estimate, part


def test_data_files_have_the_numbers_of_the_report(full, write, workspace):
    write(full)
    report = read_verdict(workspace)
    data = {
        name: json.loads((workspace / f"plots/{name}.json").read_text()) for name in TEMPLATE_OF
    }
    for name, rows in data.items():
        assert all(row.keys() == rows[0].keys() for row in rows), (
            f"{name}: DVC refuses rows with different keys"
        )
    arms = {(row["panel"], row["label"]): row["value"] for row in data["arms"]}
    assert (
        len(arms) == 16
        and arms["perplexity (lower is better)", "tuned"]
        == report["arms"]["tuned"]["perplexity"]["value"]
    )
    gaps = {(row["panel"], row["label"]): row for row in data["differences"]}
    gap = gaps["exact_match", "tuned − few_shot"]
    assert (gap["ci_low"], gap["zero"], gap["margin"]) == (
        report["comparisons"][3]["ci_low"],
        0,
        0.02,
    )
    assert gaps["perplexity (lower is better)", "tuned − few_shot"]["margin"] is None
    assert {row["arm"]: row["prompt_tokens"] for row in data["tokens"]}["few_shot"] == 452
    assert [row["kind"] for row in data["slices"]] == ["worse", "tuned"]
    assert sum(row["count"] for row in data["confusion"]) == 2 * sum(
        map(sum, report["confusion"]["arms"]["tuned"])
    )
    assert [row["value"] for row in data["curve"] if row["what"] == "measured"] == [0.6, 0.7]
    assert {row["label"] for row in data["forgetting"]} == {"all", "facts", "hellaswag (acc)"}


def test_many_slices_are_cut_to_the_lost_and_the_large_ones(bare):
    bare["slices"] = [part(f"value {n}", rows=n) for n in range(300)] + [
        part("lost", rows=1, loses=True)
    ]
    rows = get_plots(bare, ["exact_match"])["slices"]
    assert len(rows) == SLICES and rows[-1]["label"] == "lost" and rows[0]["label"] == "value 261"


@pytest.mark.parametrize("name", TEMPLATE_OF)
def test_a_template_fills_to_a_plot(name, full):
    import vl_convert

    rows = get_plots(full, ["exact_match", "perplexity"])[name]
    spec = fill_template(name, rows, "x", "y")
    assert "<DVC_METRIC" not in json.dumps(spec)
    svg = vl_convert.vegalite_to_svg(spec)
    expected = {"arms": ("tuned_long", "0.700"), "differences": ("tuned − remote", "−5.000"), "tokens": ("remote",),
                "slices": ("by label", "any other"), "confusion": ("4 other labels", "another answer"),
                "curve": ("few_shot",), "forgetting": ("facts", "−0.370")}  # fmt: skip
    for text in expected[name]:
        assert text in svg, text


def test_a_plot_of_nothing_but_zeros_has_an_axis(bare):
    for numbers in bare["arms"].values():
        numbers["exact_match"] = estimate(0.0, 0.0)
    rows = get_plots(bare, ["exact_match"])["arms"]
    assert {(row["low"], row["high"]) for row in rows} == {(0.0, 1.0)}


def test_dvc_shows_the_same_plots(full, bare, write, workspace):
    stage = OmegaConf.to_container(OmegaConf.load(ROOT / "dvc.yaml").stages.evaluate.plots)
    declared = {path: options for plot in stage for path, options in plot.items()}
    assert {path: o["template"] for path, o in declared.items()} == {
        f"plots/{n}.json": t for n, t in TEMPLATE_OF.items()
    }
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "-q"], cwd=workspace, check=True)
    shutil.copytree(TEMPLATES, workspace / ".dvc/plots")
    plots = [{path: options} for path, options in declared.items()]
    (workspace / "dvc.yaml").write_text(json.dumps({"plots": plots}))
    for report, shown in ((full, len(TEMPLATE_OF)), (bare, 3)):
        write(report)
        done = subprocess.run(
            [*dvc, "plots", "show"], cwd=workspace, capture_output=True, text=True, check=True
        )
        page = (workspace / "dvc_plots/index.html").read_text()
        assert "index.html" in done.stdout and "<DVC_METRIC" not in page
        assert page.count("vegaEmbed(") == len(TEMPLATE_OF) and page.count('"$schema"') == shown


def test_labels_beyond_the_readable_are_folded_together(full):
    labels, arms, folded = fold_labels(full["confusion"])
    assert (
        len(labels) == LABELS
        and labels[-1] == "4 other labels"
        and folded == [f"label {n}" for n in range(11, 15)]
    )
    before = full["confusion"]["arms"]["tuned"]
    after = arms["tuned"]
    assert sum(map(sum, after)) == sum(map(sum, before)) and all(
        len(row) == LABELS + 1 for row in after
    )
    assert after[0][0] == before[0][0] and after[0][-1] == before[0][-1], (
        "another answer stays apart"
    )
    few = {"labels": ["a", "b"], "arms": {"tuned": [[1, 0, 0], [0, 1, 0]]}}
    assert fold_labels(few) == (few["labels"], few["arms"], [])
