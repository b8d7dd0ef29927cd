"""Find keys, tokens and passwords in the rows with the regex-based detectors of detect-secrets.

The detectors by entropy and by keyword are not used. They are made for source code and raise many
false alarms in prose. The detector of public IP addresses is not used either, because those are
not secrets.
"""

import re
from functools import cache
from typing import Any

NOT_SECRET = {"Public IP (ipv4)"}
# Every match of the detectors contains a long word (with a digit unless it is very long), or one of
# a few words and prefixes. The detectors need 80 microseconds per row and this pattern needs 10.
# A test compares it with the patterns of the detectors.
POSSIBLE = re.compile(
    r"://|PRIVATE KEY|AKC|AP[\dA-F]|eyJ|_authToken|[xX][oO][xX][a-zA-Z]-|\S{20}|(?=\S{0,10}\d)\S{11}"
)


def may_hold_a_secret(text: str) -> bool:
    """Tell quickly whether a text may hold a secret, without missing any that a detector finds."""
    return POSSIBLE.search(text) is not None


def kinds_of_secrets(text: str) -> list[str]:
    """Return the names of the kinds of secrets in a text."""
    return [
        detector.secret_type
        for detector in detectors()
        if any(True for _ in detector.analyze_string(text))
    ]


@cache
def detectors() -> list[Any]:
    """Return the detectors in use."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    kinds: dict[str, Any] = get_mapping_from_secret_type_to_class()
    return [
        kind()
        for name, kind in kinds.items()
        if issubclass(kind, RegexBasedDetector) and name not in NOT_SECRET
    ]
