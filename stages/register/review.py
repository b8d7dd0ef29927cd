"""Render the gate as a page that a person can look at: each condition with its numbers."""

from pathlib import Path
from typing import Any

from stages.core.errors import printable
from stages.core.models.candidates import Candidate
from stages.register.condition import write_value
from stages.register.registration import Outcome

TEMPLATES = Path(__file__).parent / "templates"


def render_review(candidate: Candidate, report: dict[str, Any], outcome: Outcome) -> str:
    """Render `reports/gate.html`, which needs no scripts and no network.

    All texts are escaped. Failed conditions come first.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"printable": printable, "number": _write}
    return environment.get_template("gate.html.j2").render(
        settings=candidate.config.register_,
        arm=candidate.name,
        report=report,
        outcome=outcome,
        conditions=sorted(outcome.conditions, key=lambda condition: condition.passed),
    )


def _write(value: float | str | None) -> str:
    return "" if value is None else printable(write_value(value))
