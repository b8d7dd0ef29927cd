"""Errors that are shown to the user, and the removal of passwords from text that is shown."""

import re


class UserError(Exception):
    """A mistake that the user can correct.

    The text says what was wrong, where, and what to do. Stages print only the text and exit with
    status 1. Every other exception is a defect of Tuneproof and keeps its traceback.
    """


def hide_passwords(text: str) -> str:
    """Replace the user and password of every URL in a text with `***`."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)
