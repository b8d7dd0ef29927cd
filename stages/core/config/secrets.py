"""Find secrets in the configuration, which `params.yaml`, git and MLflow would record."""

import re
from collections.abc import Iterator
from typing import Any

from stages.core.errors import hide_secrets, list_secrets

VARIABLE = re.compile("[A-Z_][A-Z0-9_]*")
# The names of arguments of libraries, and flags and variables of commands, that take a secret.
NAMED = re.compile(
    r"(?i)(?:.*[._-])?(?:(?:hub|hf|access|auth|api|bearer|push_to_hub)[_-]?token"
    r"|(?:api|secret|access)[_-]?key|password|passwd|client[_-]?secret|secret[_-]?access[_-]?key)"
)


def list_problems(value: Any, key: str = "") -> Iterator[str]:
    """Yield a message for each secret in a resolved configuration.

    A message names the key and what is wrong, and does not repeat the value. A key that ends with
    `_env` takes the name of an environment variable, and a key such as `hub_token` no value at all.
    """
    if isinstance(value, dict):
        for name, part in value.items():
            yield from list_problems(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        yield from _list_flags(value, key)
        for number, part in enumerate(value):
            yield from list_problems(part, f"{key}.{number}")
    elif isinstance(value, str):
        shown = hide_secrets(key)
        if key.endswith("_env") and "${" not in value and not VARIABLE.fullmatch(value):
            yield (
                f"{shown}: expected the name of an environment variable (capital letters, digits "
                "and _), such as OPENAI_API_KEY. The secret itself does not belong here"
            )
        if value and NAMED.fullmatch(key):
            yield f"{shown}: takes a secret; remove it, because libraries read it from the environment"
        for secret in (*list_secrets(value), *list_secrets(key.rpartition(".")[2])):
            yield f"{shown}: holds {secret}"


def _list_flags(values: list[Any], key: str) -> Iterator[str]:
    """Find flags such as `--api-key` and assignments such as `HF_TOKEN=…` in a command."""
    for word in " ".join(map(str, values)).split():
        name, _, rest = word.partition("=")
        if NAMED.fullmatch(name.lstrip("-")) and (rest or name.startswith("-")):
            yield f"{hide_secrets(key)}: {name} takes a secret; set its environment variable"
