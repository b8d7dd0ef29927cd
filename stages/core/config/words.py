"""Read the settings of a program from words of the form `key=value`, as Hydra's overrides are written."""

import argparse
import difflib
from collections.abc import Sequence
from typing import TypeVar

from pydantic import ValidationError

from stages.core.config.base import Section
from stages.core.errors import UserError, hide_secrets

Settings = TypeVar("Settings", bound=Section)


def read_words(
    section: type[Settings], program: str, text: str | None, words: Sequence[str] | None = None
) -> Settings:
    """Read the command line of a tool or a service, or print its help.

    Args:
        section: The settings, with the meaning of each field as its docstring. A field without a
            default is required.
        program: The command, such as `python -m tools.export`.
        text: What the program does, for the help.
        words: The command line. None takes that of this process.

    Raises:
        UserError: A word has another form, or a key is unknown, missing or has a wrong value.
    """
    parser = argparse.ArgumentParser(
        program,
        description=text,
        epilog=_describe(section),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="key=value", help="a setting; see below")
    return parse_words(section, parser.parse_args(words).words)


def parse_words(section: type[Settings], words: Sequence[str]) -> Settings:
    """Check words of the form `key=value` against the fields of a section.

    Raises:
        UserError: See `read_words`.
    """
    values: dict[str, str] = {}
    for word in words:
        key, found, value = word.partition("=")
        if not found:
            raise UserError(f"{word!r}: write key=value. {_list_keys(section)}")
        if key not in section.model_fields:
            close = difflib.get_close_matches(key, section.model_fields, n=1)
            meant = f" Did you mean {close[0]}?" if close else ""
            raise UserError(f"{key}: unknown key.{meant} {_list_keys(section)}")
        if key in values:
            raise UserError(f"{key} is given twice: {values[key]!r} and {value!r}. Remove one")
        values[key] = value
    try:
        return section.model_validate_strings(values, strict=False)
    except ValidationError as error:
        problems = [
            _explain(str(problem["loc"][0]) if problem["loc"] else "", problem["msg"], values)
            for problem in error.errors(include_url=False)
        ]
        raise UserError("; ".join(problems)) from None


def _explain(key: str, said: str, values: dict[str, str]) -> str:
    message = said.removeprefix("Value error, ").removeprefix("Input ")
    if not key:  # a rule about several keys, whose message names them
        return message
    if key not in values:
        return f"{key}: this key is missing. Write {key}=…"
    return f"{key}: {message}, got {hide_secrets(repr(values[key]))}"


def _list_keys(section: type[Section]) -> str:
    return f"The keys are {', '.join(section.model_fields)}. --help says what they mean"


def _describe(section: type[Section]) -> str:
    """List the keys with their meanings and defaults."""
    lines = ["keys:"]
    for key, field in section.model_fields.items():
        meaning = " ".join((field.description or "").split())
        default = "" if field.is_required() else f" (default: {_show(field.default)})"
        lines.append(f"  {key}: {meaning}{default}")
    return "\n".join(lines)


def _show(value: object) -> str:
    return {True: "true", False: "false", None: "none"}.get(value, str(value))  # type: ignore[call-overload]
