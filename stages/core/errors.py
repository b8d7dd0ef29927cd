"""What a person is meant to see of a mistake, and what must not reach a terminal, a log or MLflow."""

import re


class UserError(Exception):
    """A mistake that the person who started the stage can mend; the text says what was wrong, where, and what to do.

    Stages print the text alone and exit with 1. Anything else that is raised is a defect of Tuneproof and keeps its
    traceback.
    """


def hide_passwords(text: str) -> str:
    """`text` with `***` for the user and password of every URL in it."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)
