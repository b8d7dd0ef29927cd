"""Keys, tokens and passwords in the rows, by the detectors of detect-secrets that know their form.

Its guesses by entropy and by keywords are for source code and left out: prose is full of their false alarms. So is
its detector of public IP addresses, which are no secrets.
"""

import re
from functools import cache
from typing import Any

from stages.core.records import Record
from stages.prepare.containers import Row
from stages.prepare.findings import Finding

NOT_SECRET = {"Public IP (ipv4)"}
# What every form that they know has: a long word, with a digit unless it is very long, or one of a few words and heads.
# The detectors need 80 microseconds a row, this look 10; a test holds it against their own patterns.
POSSIBLE = re.compile(r"://|PRIVATE KEY|AKC|AP[\dA-F]|eyJ|_authToken|[xX][oO][xX][a-zA-Z]-|\S{20}|(?=\S{0,10}\d)\S{11}")


def find_secret(record: Record, row: Row) -> list[Finding]:
    """One finding a message that holds secrets; it names their kind and not the secret."""
    text = "\n".join(message["content"] for message in record.messages)
    if not POSSIBLE.search(text) or not _kinds(text):
        return []
    findings = []
    for i, message in enumerate(record.messages):
        if kinds := _kinds(message["content"]):
            found, todo = ", ".join(kinds), "remove it from the data and revoke it: a model repeats what it saw"
            findings.append(Finding("secret", row.file, row.line, f"messages[{i}].content", found, todo))
    return findings


def _kinds(text: str) -> list[str]:
    return [plugin.secret_type for plugin in _detectors() if any(True for _ in plugin.analyze_string(text))]


@cache
def _detectors() -> list[Any]:
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    kinds: dict[str, Any] = get_mapping_from_secret_type_to_class()
    return [kind() for name, kind in kinds.items() if issubclass(kind, RegexBasedDetector) and name not in NOT_SECRET]
