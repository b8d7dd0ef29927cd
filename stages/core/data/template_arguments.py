"""The arguments of a chat template, which are written into the template itself.

Every process that renders with such a template, such as a server, renders as this project does. It
needs no arguments, and none that it passes can change the prompts that were evaluated.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stages.core.config.model import PASSED
from stages.core.errors import UserError

if TYPE_CHECKING:
    from jinja2 import TemplateSyntaxError

Template = str | dict[str, str]
"""A chat template, or several by name."""
KEY = "model.chat_template_kwargs"
TESTS = {"defined", "undefined", "none", "true", "false", "default", "d"}
"""The tests and filters of Jinja with which a template asks whether it was given an argument."""
SHOWN = 12  # arguments that a message names


def set_arguments(template: Template, arguments: Mapping[str, Any]) -> Template:
    """Write arguments into a template, or into each of several templates that reads one of them.

    Args:
        template: The template. Without arguments it is only checked for errors of syntax.
        arguments: The values, as JSON has them, by name.

    Raises:
        UserError: No template reads one of the arguments, or a template has an error of syntax.
    """
    templates = template if isinstance(template, dict) else {"": template}
    known = {name: list_arguments(text) for name, text in templates.items()}
    unknown = set(arguments) - set().union(*known.values())
    if unknown:
        raise UserError(_explain(min(unknown), sorted(set().union(*known.values()))))
    written = {
        name: _write({key: arguments[key] for key in arguments if key in known[name]}, text)
        for name, text in templates.items()
    }
    return written if isinstance(template, dict) else written[""]


def list_arguments(template: str) -> set[str]:
    """List the arguments that a template reads, apart from those that transformers passes.

    These are the names that it never assigns, or for which it asks whether they were given.

    Raises:
        UserError: The template has an error of syntax.
    """
    from jinja2 import TemplateSyntaxError, meta, nodes
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        tree = _compile_jinja_template(template).environment.parse(template)
    except TemplateSyntaxError as error:
        raise UserError(explain_syntax(error)) from None
    assigned = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    asked = {
        place.node.name
        for place in (*tree.find_all(nodes.Test), *tree.find_all(nodes.Filter))
        if isinstance(place.node, nodes.Name) and place.name in TESTS
    }
    free = meta.find_undeclared_variables(tree) - PASSED
    return {name for name in free - (assigned - asked) if not name.endswith("_token")}


def explain_syntax(error: "TemplateSyntaxError") -> str:
    """Say where a template is broken, and what to do."""
    said = str(error.message).rstrip(".")
    return (
        f"the model's chat template is broken in line {error.lineno}: {said}. Choose another model, "
        "or correct its template."
    )


def _write(arguments: Mapping[str, Any], template: str) -> str:
    """Assign the arguments before everything else in a template.

    The line break keeps white space at the start of the template where transformers strips it.
    """
    assigned = "".join(f"{{%- set {name} = {value!r} %}}" for name, value in arguments.items())
    return (
        f"{assigned}\n{template}" if arguments and template[:1].isspace() else assigned + template
    )


def _explain(name: str, known: list[str]) -> str:
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    reads = f"It reads {', '.join(known[:SHOWN])}{more}." if known else "It reads none."
    return (
        f"{KEY}.{name}: the model's chat template does not read this argument. {reads} "
        "Correct the name, or remove it."
    )
