"""The rule that turns comparisons into an answer.

Arms stand on a ladder of effort: one constant answer, then the other arms without a model (`nearest`, `lookup`), then
prompts, then tuned models. Each step up must be earned by the margin, and each claim is made with a bound of the chosen
confidence. Which claim needs which bound is in `decide`; how often each is wrong, `benchmarks.verdict` measures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from stages.core.config.arms import CONSTANT_ARM
from stages.core.statistics.bounds import Estimate, Spread

Answer = Literal["fine-tune", "prompt", "no-model", "neither", "not-enough-evidence"]


@dataclass(frozen=True, slots=True)
class Field:
    """The arms of a verdict and what was measured of them, all by the primary metric."""

    model_free: Sequence[str]
    """`constant` first."""
    prompted: Sequence[str]
    tuned: Sequence[str]
    estimates: Mapping[str, Estimate]
    """Of each arm."""
    spreads: Mapping[tuple[str, str], Spread]
    """The paired difference of each arm to each other, first minus second."""
    cheaper: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    """Whether a tuned arm is shown to cost less than a prompted one, its training paid back."""
    cost: Mapping[str, float] = field(default_factory=dict)
    """Of a request of each arm."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What the comparisons are held against."""

    margin: float
    """The smallest difference that is worth having."""
    confidence: float
    useful: float | None = None
    """The least value of the primary metric that is of any use; null knows none."""
    min_rows: int = 0
    """With fewer rows nothing is decided."""
    looks: int = 1
    """Tuned models that were judged on these rows so far, this one included."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer, the arm to use (null where none has shown its worth), and why."""

    verdict: Answer
    recommended_arm: str | None
    because: str
    """One sentence: what decided."""
    alternative: str | None = None
    """What else could be used: a tuned arm that costs less, where it was not shown to be as good."""


def decide(arms: Field, rule: Rule, rows: int) -> Verdict:
    """Apply the rule.

    Write `alpha` for one less the confidence. Arm *a beats b* where the lower bound of its difference lies above the
    margin, and *adds nothing to b* where the upper bound lies below it.

    - `fine-tune`: a tuned arm beats every arm without a model, and of every prompted arm it either beats it or is not
      worse by the margin and shown to be cheaper. All must hold, so that no correction for the number of comparisons is
      needed (intersection-union test; Berger, 1982). Where there are several tuned arms, or several tuned models were
      judged on these rows before, one of them may win by luck: alpha is divided by both numbers (Bonferroni).
    - `neither`: every other arm adds nothing to `constant` (all must hold), or no arm reaches `useful`.
    - `no-model`: `nearest` or `lookup` beats `constant`, and every prompted and tuned arm adds nothing to it. One of
      two suffices: alpha is divided by their number.
    - `prompt`: a prompted arm beats every arm without a model, and to some prompted arm no tuned one adds anything. One
      of the prompted arms suffices: alpha is divided by their number.
    - `not-enough-evidence`: none of these was shown, or there are fewer than `min_rows` rows.

    Args:
        arms: what was measured.
        rule: margin and confidence.
        rows: judged.
    """
    judge = _Judge(arms, rule)
    if rows < rule.min_rows:
        why = f"{rows} rows were judged; below {rule.min_rows} (checks.min_test_rows) nothing is decided."
        return Verdict("not-enough-evidence", None, why)
    found = (
        judge.fine_tune()
        or judge.neither()
        or judge.no_model()
        or judge.prompt()
        or judge.undecided()
    )
    return judge.hold_against_useful(found)


class _Judge:
    """One method for each claim; None where it was not shown."""

    def __init__(self, arms: Field, rule: Rule) -> None:
        self._arms = arms
        self._rule = rule
        self._alpha = 1 - rule.confidence

    def fine_tune(self) -> Verdict | None:
        winners = [arm for arm in self._arms.tuned if self._wins(arm)]
        if not winners:
            return None
        arm = self._cheapest(winners)
        alpha = self._tuned_alpha()
        close = [other for other in self._arms.prompted if not self._beats(arm, other, alpha)]
        margin = self._rule.margin
        if close:
            names = ", ".join(close)
            why = f"{arm} is as good as {names} (not worse by {margin:.3f}) and cheaper, and beats every other arm."
        else:
            why = f"{arm} beats every prompted arm and every arm without a model by more than {margin:.3f}."
        return Verdict("fine-tune", arm, why, self._name_cheaper(arm, winners))

    def _name_cheaper(self, arm: str, winners: Sequence[str]) -> str | None:
        """The winners that cost less than the recommended one and may be as good, which was not shown."""
        cost = self._arms.cost
        margin = self._rule.margin
        found = []
        for other in winners:
            if cost.get(other, float("inf")) >= cost.get(arm, float("inf")):
                continue
            spread = self._arms.spreads[other, arm]
            if spread.high(self._alpha) > -margin:
                found.append(
                    f"{other} costs {cost[other] / cost[arm]:.0%} of it a request, but that it is not worse by "
                    f"{margin:.3f} was not shown: {spread.value:+.3f}, at least {spread.low(self._alpha):+.3f}."
                )
        return " ".join(found) or None

    def neither(self) -> Verdict | None:
        others = [arm for arm in self._all() if arm != CONSTANT_ARM]
        if not all(self._adds_nothing(arm, CONSTANT_ARM, self._alpha) for arm in others):
            return None
        why = f"No arm is better by {self._rule.margin:.3f} than always giving the most frequent answer."
        return Verdict("neither", None, why)

    def no_model(self) -> Verdict | None:
        rivals = [arm for arm in self._arms.model_free if arm != CONSTANT_ARM]
        alpha = self._alpha / max(len(rivals), 1)
        models = [*self._arms.prompted, *self._arms.tuned]
        winners = [
            arm
            for arm in rivals
            if self._beats(arm, CONSTANT_ARM, alpha)
            and all(self._adds_nothing(m, arm, alpha) for m in models)
        ]
        if not winners:
            return None
        arm = self._best(winners)
        return Verdict(
            "no-model",
            arm,
            f"No model is better than {arm} by {self._rule.margin:.3f}; it needs none.",
        )

    def prompt(self) -> Verdict | None:
        alpha = self._alpha / max(len(self._arms.prompted), 1)
        enough = [
            p
            for p in self._arms.prompted
            if all(self._adds_nothing(t, p, alpha) for t in self._arms.tuned)
        ]
        winners = self._useful_prompts()
        if not enough or not winners:
            return None
        arm = self._cheapest(winners)
        why = f"Tuning does not improve on {' or '.join(enough)} by {self._rule.margin:.3f}: it is not worth it."
        return Verdict("prompt", arm, why)

    def undecided(self) -> Verdict:
        """Says against which arms the best tuned one falls short, and which arm can be used until then."""
        tuned = self._best(self._arms.tuned)
        alpha = self._tuned_alpha()
        margin = f"{self._rule.margin:.3f}"
        rivals = [*self._arms.model_free, *self._arms.prompted]
        no_better = [arm for arm in rivals if self._adds_nothing(tuned, arm, alpha)]
        unclear = [
            arm for arm in rivals if arm not in no_better and not self._beats(tuned, arm, alpha)
        ]
        names = ", ".join(unclear)
        if not no_better:
            why = f"Whether {tuned} is better than {names} by {margin} cannot be told from these rows."
        else:
            open_question = (
                f"whether it is better than {names}" if unclear else "which arm is the best"
            )
            why = f"{tuned} is not better than {', '.join(no_better)} by {margin}; {open_question} cannot be told."
        return Verdict("not-enough-evidence", self._fallback(), why)

    def hold_against_useful(self, found: Verdict) -> Verdict:
        """A verdict that recommends an arm must recommend one that is of use."""
        useful = self._rule.useful
        if useful is None or found.verdict == "neither":
            return found
        values = self._arms.estimates
        if all(values[arm].ci_high < useful for arm in self._all()):
            return Verdict("neither", None, f"No arm reaches {useful:.3f} (evaluate.useful).")
        arm = found.recommended_arm
        if arm is None or values[arm].ci_low >= useful:
            return found
        low = values[arm].ci_low
        why = f"{arm} was not shown to reach {useful:.3f} (evaluate.useful): its interval begins at {low:.3f}."
        return Verdict("not-enough-evidence", None, why)

    def _wins(self, arm: str) -> bool:
        alpha = self._tuned_alpha()
        if not all(self._beats(arm, other, alpha) for other in self._arms.model_free):
            return False
        return all(
            self._beats(arm, other, alpha) or self._as_good_and_cheaper(arm, other)
            for other in self._arms.prompted
        )

    def _as_good_and_cheaper(self, arm: str, other: str) -> bool:
        spread = self._arms.spreads[arm, other]
        return spread.low(self._tuned_alpha()) > -self._rule.margin and self._arms.cheaper.get(
            (arm, other), False
        )

    def _tuned_alpha(self) -> float:
        return self._alpha / (max(len(self._arms.tuned), 1) * self._rule.looks)

    def _beats(self, arm: str, other: str, alpha: float) -> bool:
        return self._arms.spreads[arm, other].low(alpha) > self._rule.margin

    def _adds_nothing(self, arm: str, other: str, alpha: float) -> bool:
        return self._arms.spreads[arm, other].high(alpha) < self._rule.margin

    def _useful_prompts(self) -> list[str]:
        """Prompted arms that beat every arm without a model."""
        alpha = self._alpha / max(len(self._arms.prompted), 1)
        return [
            p
            for p in self._arms.prompted
            if all(self._beats(p, m, alpha) for m in self._arms.model_free)
        ]

    def _fallback(self) -> str | None:
        """What is worth using while tuning is undecided: a prompt, else an arm without a model, else nothing."""
        if prompts := self._useful_prompts():
            return self._cheapest(prompts)
        rivals = [arm for arm in self._arms.model_free if arm != CONSTANT_ARM]
        alpha = self._alpha / max(len(rivals), 1)
        winners = [arm for arm in rivals if self._beats(arm, CONSTANT_ARM, alpha)]
        return self._best(winners) if winners else None

    def _cheapest(self, arms: Sequence[str]) -> str:
        """The cheapest of those that are not worse than the best of them by the margin."""
        best = self._best(arms)
        alpha = self._alpha
        good = [
            arm
            for arm in arms
            if arm == best or self._arms.spreads[arm, best].low(alpha) > -self._rule.margin
        ]
        return min(
            good,
            key=lambda arm: (
                self._arms.cost.get(arm, float("inf")),
                -self._arms.estimates[arm].value,
            ),
        )

    def _best(self, arms: Sequence[str]) -> str:
        return max(arms, key=lambda arm: self._arms.estimates[arm].value)

    def _all(self) -> list[str]:
        return [*self._arms.model_free, *self._arms.prompted, *self._arms.tuned]
