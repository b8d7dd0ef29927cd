"""Render the gate as a page that a person can look at: each condition with its numbers."""

from pathlib import Path
from typing import Any

from stages.core.data.pages import get_template
from stages.core.errors import printable
from stages.core.models.candidates import Candidate
from stages.register.condition import write_value
from stages.register.registration import Outcome

TEMPLATE = Path(__file__).parent / "templates/gate.html.j2"


def render_review(candidate: Candidate, report: dict[str, Any], outcome: Outcome) -> str:
    """Render `reports/gate.html`, which needs no scripts and no network.

    All texts are escaped. Failed conditions come first.
    """
    return get_template(TEMPLATE, number=_write).render(
        settings=candidate.config.register_,
        arm=candidate.name,
        report=report,
        outcome=outcome,
        conditions=sorted(outcome.conditions, key=lambda condition: condition.passed),
    )


def _write(value: float | str | None) -> str:
    return "" if value is None else printable(write_value(value))
