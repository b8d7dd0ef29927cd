"""Fixtures of the reports with made-up numbers."""

import pytest

from stages.evaluate.report.write import write_reports
from tests.evaluate.report.made_up import ATTACK, Page, answered, make_full_report, make_report


@pytest.fixture
def bare():
    """Return a report with what every report has."""
    return make_report()


@pytest.fixture
def full():
    """Return a report with everything that a report may have."""
    return make_full_report()


@pytest.fixture
def write(config, workspace):
    """Return a function that writes a report and reads its page."""

    def write_report(report):
        metrics = list(report["measures"])
        options = ["evaluate.target_loglikelihood=true"] if "perplexity" in metrics else []
        settings = config(f"evaluate.metrics=[{','.join(metrics)}]", *options)
        write_reports(
            settings,
            report,
            *answered([True] * 12 + [False] * 12, [False] * 12 + [True] * 12, {3: ATTACK}),
        )
        return Page((workspace / "reports/verdict.html").read_text())

    return write_report
