"""What must not reach a terminal, a log or MLflow."""

import re


def hide_passwords(text: str) -> str:
    """`text` with `***` for the user and password of every URL in it."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)
