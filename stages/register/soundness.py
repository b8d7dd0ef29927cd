"""Check that the test rows were new to the model, and that the model ends its answers."""

from collections.abc import Sequence

from stages.core.config.register import Gate
from stages.core.config.train import CLASSIFYING
from stages.core.data.leaks import read_leak_fraction
from stages.core.data.predictions import Prediction
from stages.register.condition import Condition


def check_leaks() -> Condition:
    """Require that no held-out row has a near-duplicate or its question in another split.

    `prepare` has measured it in the splits that are there now. Otherwise the condition fails.
    """
    share = read_leak_fraction()
    if share is None:
        why = (
            "nobody has measured whether rows of the prepared splits leak from one to another. Run "
            "`dvc repro`, or `dvc repro --force --single-item prepare` if DVC says that everything "
            "is up to date"
        )
        return Condition("leak", False, why, limit=0.0)
    sentence = (
        f"{share:.1%} of the validation and test rows have a near-duplicate or the same question "
        "in another split; the gate requires 0%"
    )
    remedy = ". To drop the training rows that leak, set -S checks.leak=drop"
    return Condition("leak", share == 0, sentence + (remedy if share else ""), share, limit=0.0)


def check_end_token(gate: Gate, method: str, answers: Sequence[Prediction]) -> Condition:
    """Require that the model has learned to end its answers.

    A model that does not write its end token writes on until `prompt.max_new_tokens` cuts it off.

    Args:
        gate: The configured conditions.
        method: The training method. A classifier writes no text.
        answers: The answers of the model that would be registered.
    """
    name = "end_token"
    if method in CLASSIFYING:
        return Condition(name, True, "a classifier writes no text, so it needs no end token")
    limit = gate.max_cut_fraction
    known = [answer.cut for answer in answers if answer.cut is not None]
    if len(known) < len(answers) or not known:
        why = (
            "it is unknown which answers prompt.max_new_tokens cut off, so nobody knows whether "
            "the model ends its answers. Run `dvc repro --force --single-item evaluate`"
        )
        return Condition(name, False, why, limit=limit)
    share = sum(known) / len(known)
    sentence = (
        f"{share:.1%} of the answers did not end before prompt.max_new_tokens; "
        f"the gate allows {limit:.1%}"
    )
    if share <= limit:
        return Condition(name, True, sentence, share, limit=limit)
    remedy = (
        "Train longer if the model never ends its answers, raise prompt.max_new_tokens if it needs "
        "more tokens, or set -S register.gate.max_cut_fraction"
    )
    return Condition(name, False, f"{sentence}. {remedy}", share, limit=limit)
