"""What a tuned model must show before it is registered."""

from dataclasses import dataclass
from typing import Any

from stages.core.arms import TUNED_ARM
from stages.core.config import Gate


@dataclass(frozen=True, slots=True)
class Champion:
    """What the registry says of the version that holds the alias."""

    version: str
    metric: str
    value: float
    test_sha256: str
    model_sha256: str


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition and how it turned out."""

    passed: bool
    sentence: str


def check_gate(gate: Gate, report: dict[str, Any], champion: Champion | None, arm: str = TUNED_ARM) -> list[Condition]:
    """Every condition, whether or not an earlier one failed.

    Args:
        gate: the configured conditions.
        report: `reports/verdict.json`.
        champion: the current holder of the alias, if there is one.
        arm: of the tuned model that would be registered.
    """
    metric = report["primary_metric"]
    value = report["arms"][arm][metric]["value"]
    conditions = [Condition(value >= gate.minimum, f"{metric} {value:.3f}, at least {gate.minimum} wanted")]
    if gate.verdict is not None:
        found = report["verdict"]
        conditions.insert(0, Condition(found == gate.verdict, f"verdict {found!r}, {gate.verdict!r} wanted"))
    if gate.forgotten is not None and report["forgetting"]:
        lost = -report["forgetting"]["abilities"][0]["difference"]["value"]
        wanted = f"at most {gate.forgotten:.3f} wanted"
        conditions.append(Condition(lost <= gate.forgotten, f"lost {lost:+.3f} of the general suite, {wanted}"))
    if champion is not None and gate.champion == "compare":
        conditions.append(_against_champion(champion, metric, value, report["lineage"]["data_sha256"]["test"]))
    return conditions


def _against_champion(champion: Champion, metric: str, value: float, test_sha256: str) -> Condition:
    name = f"the champion, version {champion.version}"
    if (champion.metric, champion.test_sha256) != (metric, test_sha256):
        return Condition(
            False,
            f"{name} was measured by {champion.metric} on test data {champion.test_sha256[:10]}, this model by "
            f"{metric} on {test_sha256[:10]}: not comparable. "
            f"To replace it all the same: -S register.gate.champion=ignore",
        )
    return Condition(value >= champion.value, f"{metric} {value:.3f}, {name}, has {champion.value:.3f}")
