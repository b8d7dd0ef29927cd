"""Load the Jinja templates of reports."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.data.markdown import escape_markdown
from stages.core.errors import printable

if TYPE_CHECKING:
    from jinja2 import Template


def get_template(file: Path, **filters: Callable[..., Any]) -> "Template":
    """Load a template, in which an unknown name is an error.

    Values in HTML (`.html.j2`) are escaped. The filter `printable` shows what a terminal would obey,
    and `cell` escapes a value for Markdown.

    Args:
        file: The template. It may include others of its folder.
        filters: More filters by their names.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(file.parent),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"printable": printable, "cell": escape_markdown, **filters}
    return environment.get_template(file.name)
