"""Render the report as one HTML file that opens offline and as Markdown for a pull request."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from stages.core.config.schema import Config
from stages.core.data.pages import get_template
from stages.core.errors import UserError, printable
from stages.core.storage.cache import cached_folder
from stages.core.storage.files import atomic_write
from stages.evaluate.report.intervals import SLICES, Row
from stages.evaluate.report.plots import fill_template, fold_labels

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = Path(__file__).parent / "templates"
GITHUB_LIMIT = 65_536  # the most characters of a comment
_QUOTED = re.compile("“([^“”]*)”")
BUNDLE = "vega.js"
MOST = 60  # slices in the Markdown's table; fewer if the text would still be too long


def render_page(
    config: Config,
    report: Mapping[str, Any],
    plots: Mapping[str, list[Row]],
    example: Any,
    examples: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
    """Render `reports/verdict.html`.

    All texts of data and models are escaped. The content security policy of the page allows only
    its own two scripts and no network request.
    """
    metric = report["primary_metric"]
    labels = {"tokens": ("prompt tokens per request", metric), "curve": ("training rows", metric)}
    specs = {
        name: fill_template(name, rows, *labels.get(name, ()))
        for name, rows in plots.items()
        if rows
    }
    scripts = [_vega(), (TEMPLATES / "page.js").read_text("utf-8")]
    return _load("report.html.j2").render(
        config=config,
        report=report,
        metrics=config.evaluate.metrics,
        example=example,
        examples=examples,
        confusion=fold_labels(report["confusion"]) if report["confusion"] else None,
        specs={name: embedded_json(spec) for name, spec in specs.items()},
        slices_shown=SLICES,
        scripts=scripts,
        style=(TEMPLATES / "page.css").read_text("utf-8"),
        script_hashes=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
    )


def render_markdown(config: Config, report: Mapping[str, Any]) -> str:
    """Render `reports/verdict.md`.

    The text fits into a comment on a pull request, however many slices there are.
    """
    template = _load("report.md.j2")
    slices = sorted(report["slices"], key=lambda part: (not part["loses"], -part["rows"]))
    shown = MOST
    while True:
        text = template.render(
            config=config, report=report, metrics=config.evaluate.metrics, slices=slices[:shown]
        )
        if len(text) <= GITHUB_LIMIT or not shown:
            return text[:GITHUB_LIMIT]
        shown //= 2


def embedded_json(value: Any) -> str:
    """Encode a value as JSON for a `<script>` element, which no text in it can close."""
    return orjson.dumps(value).decode().replace("<", "\\u003c")


@cache
def _vega() -> str:
    """Return a bundle of Vega, Vega-Lite and Vega-Embed. To make it takes two seconds."""
    key = f"vega/{version('vl-convert-python')}"
    try:
        folder = cached_folder(key, lambda new: atomic_write(new / BUNDLE, _bundle().encode()))
    except UserError:  # a report needs no cache
        return _bundle()
    return (folder / BUNDLE).read_text("utf-8")


def _bundle() -> str:
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _load(name: str) -> "Template":
    return get_template(
        TEMPLATES / name, interval=_interval, signed=_signed, sentence=_sentence, minus=_minus
    )


def _interval(estimate: Mapping[str, Any], sign: str = "") -> str:
    """Format a value and its interval as HTML. A narrow screen shows the interval below."""
    value = estimate["difference"] if "p_value" in estimate else estimate["value"]
    numbers = (
        _minus(format(number, f"{sign}.3f"))
        for number in (value, estimate["ci_low"], estimate["ci_high"])
    )
    return "{} <small>({} to {})</small>".format(*numbers)


def _sentence(text: str) -> Any:
    """Escape a sentence of the report and isolate each text that it quotes.

    A quoted answer from right to left would otherwise reorder the words around it.
    """
    from markupsafe import Markup, escape

    return Markup(_QUOTED.sub(r"“<bdi>\1</bdi>”", str(escape(printable(text)))))  # noqa: S704


def _signed(estimate: Mapping[str, Any]) -> str:
    return _interval(estimate, "+")


def _minus(text: str) -> str:
    return text.replace("-", "−")  # as wide as the plus sign, so that columns align
