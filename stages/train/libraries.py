"""Say which optional library is missing, and how to install it."""

from collections.abc import Iterator
from contextlib import contextmanager

from stages.core.errors import UserError

OURS = ("stages", "tools")
PINNED = "pip install -c constraints.txt --group"
COMMANDS = {
    "bitsandbytes": f"{PINNED} qlora",
    "deepspeed": f"{PINNED} deepspeed",
    "flashattention2": "pip install flash-attn --no-build-isolation",
}
"""Commands for libraries whose own message has none, or one for another version.

The key is how the message names the library, without spaces, dashes and capitals.
"""


@contextmanager
def explain_missing_library() -> Iterator[None]:
    """Turn the error of a library that needs another one into a message for the user.

    Raises:
        UserError: A library that is not ours cannot be imported in the block.
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] in OURS:
            raise
        text = " ".join(str(error).split())
        plain = text.lower().replace("_", "").replace("-", "").replace(" ", "")
        command = next((known for name, known in COMMANDS.items() if name in plain), None)
        advice = f"Install it with `{command}`, or choose" if command else "Install it, or choose"
        raise UserError(
            f"the configuration needs a library that is not installed: {text.rstrip('.')}. {advice} "
            "settings that do not need it. No model was written."
        ) from error
