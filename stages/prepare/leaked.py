"""Keys, tokens and passwords in the rows, by the detectors of detect-secrets that know their form.

Its guesses by entropy and by keywords are for source code and left out: prose is full of their false alarms. So is
its detector of public IP addresses, which are no secrets.
"""

import re
from functools import cache
from typing import Any

NOT_SECRET = {"Public IP (ipv4)"}
# What every form that they know has: a long word, with a digit unless it is very long, or one of a few words and heads.
# The detectors need 80 microseconds a row, this look 10; a test holds it against their own patterns.
POSSIBLE = re.compile(
    r"://|PRIVATE KEY|AKC|AP[\dA-F]|eyJ|_authToken|[xX][oO][xX][a-zA-Z]-|\S{20}|(?=\S{0,10}\d)\S{11}"
)


def may_hold_a_secret(text: str) -> bool:
    """A quick look, which misses nothing that the detectors know."""
    return POSSIBLE.search(text) is not None


def kinds_of_secrets(text: str) -> list[str]:
    """The names of the kinds of secrets in a text."""
    return [
        detector.secret_type
        for detector in detectors()
        if any(True for _ in detector.analyze_string(text))
    ]


@cache
def detectors() -> list[Any]:
    """Those in use."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    kinds: dict[str, Any] = get_mapping_from_secret_type_to_class()
    return [
        kind()
        for name, kind in kinds.items()
        if issubclass(kind, RegexBasedDetector) and name not in NOT_SECRET
    ]
