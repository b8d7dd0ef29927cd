"""Check that the licences of the base model and of the data allow to register the tuned model."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from stages.core.config.model import HubSource
from stages.core.config.register import Gate, Licensed
from stages.core.config.train_options import InitAdapter, TeacherModel
from stages.core.models.candidates import Candidate
from stages.register.condition import Condition

UNKNOWN = "unknown"


def check_licenses(candidate: Candidate) -> list[Condition]:
    """Require that all licences are known and among `register.gate.allowed_licenses`.

    They are those in `register.licenses`. A base model of the hub that is not there has the licence
    of its card, and so have an adapter from which training started and a teacher whose
    probabilities were learned. The gate may accept an unknown licence too.
    """
    config = candidate.config
    stated = config.register_.licenses
    base = config.train.encoder or config.model
    of_base = stated.get(base.name) or _read_license(base.source) or UNKNOWN
    of_data = stated.get(config.data.name) or UNKNOWN
    gate = config.register_.gate
    conditions = [
        _check("base_model", f"the base model {base.name}", base.name, of_base, gate),
        _check("data", f"the data {config.data.name}", config.data.name, of_data, gate),
    ]
    more: dict[Licensed, InitAdapter | TeacherModel | None] = {
        "adapter": config.train.init_adapter,
        "teacher": config.train.teacher_model,
    }
    for part, own in more.items():
        if own and own.source:
            found = stated.get(own.source) or _read_license(own) or UNKNOWN
            conditions.append(_check(part, f"the {part} {own.source}", own.source, found, gate))
    return conditions


def is_allowed(license_id: str, allowed: Sequence[str]) -> bool:
    """Return whether a licence, or each of several with AND between them, matches a pattern.

    Args:
        license_id: An id of SPDX.
        allowed: Ids, or patterns with `*`. Upper and lower case are the same. Other text than ids
            and AND is never allowed, because a pattern would match anything behind an id.
    """
    parts = re.split(r"\s+and\s+", license_id.lower().strip())
    if not all(re.fullmatch(r"[a-z0-9.+:-]+", part) for part in parts):
        return False
    return all(any(fnmatchcase(part, one.lower()) for one in allowed) for part in parts)


def _check(part: Licensed, what: str, called: str, license_id: str, gate: Gate) -> Condition:
    name = f"{part}_license"
    sentence = f"the licence of {what} is {license_id}"
    if license_id.lower() == UNKNOWN:
        if part in gate.accept_unknown_licenses:
            return Condition(name, True, f"{sentence}, which the configuration accepts", UNKNOWN)
        remedy = (
            f"find it out and set -S '+register.licenses={{{called}: MIT}}', with its id of "
            "spdx.org/licenses, or with LicenseRef-own for what is your own"
        )
    elif is_allowed(license_id, gate.allowed_licenses):
        return Condition(name, True, f"{sentence}, which the gate allows", license_id)
    else:
        remedy = (
            f"the gate allows {', '.join(gate.allowed_licenses)}. If its terms allow what the "
            "model is for, add it to register.gate.allowed_licenses"
        )
    return Condition(name, False, f"{sentence}; {remedy}", license_id)


def _read_license(source: Any) -> str | None:
    """Read the licence from the card of a model or an adapter, if it has one.

    It is of the hub or in a local folder.
    """
    if not isinstance(source, HubSource | InitAdapter | TeacherModel):
        return None
    from huggingface_hub import ModelCard
    from transformers.utils import cached_file

    try:
        name = source.id if isinstance(source, HubSource) else source.source
        path = cached_file(name, "README.md", revision=source.revision)
        found = ModelCard.load(path).data.license
    except Exception:  # no card, no network, or a card that is not valid
        return None
    return found if isinstance(found, str) else None
