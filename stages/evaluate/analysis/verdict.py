"""Apply the rule that turns comparisons into a verdict.

Arms form a ladder of effort: one constant answer, then the other model-free arms (`nearest`,
`lookup`), then prompts, then tuned models. Each step up must win by the margin, and each claim
rests on a bound with the chosen confidence. `decide` documents which claim needs which bound.
`benchmarks.verdict` measures how often each claim is wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from stages.core.config.arms import CONSTANT_ARM
from stages.core.statistics.bounds import Estimate, Spread

Answer = Literal["fine-tune", "prompt", "no-model", "neither", "not-enough-evidence"]


@dataclass(frozen=True, slots=True)
class Field:
    """Hold the arms of a verdict and their measurements by the primary metric."""

    model_free: Sequence[str]
    """The model-free arms, `constant` first."""
    prompted: Sequence[str]
    tuned: Sequence[str]
    estimates: Mapping[str, Estimate]
    """The estimate of each arm."""
    spreads: Mapping[tuple[str, str], Spread]
    """The paired difference of each pair of arms, first minus second."""
    cheaper: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    """Whether a tuned arm was shown to cost less than a prompted one, training included."""
    cost: Mapping[str, float] = field(default_factory=dict)
    """The cost of a request of each arm."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Hold the thresholds of the verdict."""

    margin: float
    """The smallest difference that is worth having."""
    confidence: float
    min_useful_value: float | None = None
    """The lowest useful value of the primary metric; null sets no limit."""
    min_rows: int = 0
    """The number of rows below which nothing is decided."""
    looks: int = 1
    """The number of tuned models judged on these rows so far, including this one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Hold the verdict, the arm to use and the reason.

    The arm is null if none was shown to be worth using.
    """

    verdict: Answer
    recommended_arm: str | None
    because: str
    """What decided, in one or two sentences."""
    alternative: str | None = None
    """Sentences about cheaper tuned arms that may be as good, although this was not shown."""
    truncated: bool = False
    """Whether the verdict is open only because of answers that the token limit ended."""


def decide(arms: Field, rule: Rule, rows: int, uncut: Mapping[str, Field] | None = None) -> Verdict:
    """Apply the rule.

    Let `alpha` be one minus the confidence. Arm *a beats b* if the lower bound of the difference
    lies above the margin. Arm *a adds nothing to b* if the upper bound lies below the margin.

    - `fine-tune`: a tuned arm beats every model-free arm. For each prompted arm, it either beats
      that arm, or it is not worse by the margin and was shown to be cheaper. All of this must hold,
      so no correction for the number of comparisons is needed (intersection-union test; Berger,
      1982).
      If there are several tuned arms, or if tuned models were judged on these rows before, one may
      win by chance. Alpha is therefore divided by both numbers (Bonferroni).
    - `neither`: every other arm adds nothing to `constant` (all must hold), or no arm reaches
      `useful`.
    - `no-model`: `nearest` or `lookup` beats `constant`, and every prompted and tuned arm adds
      nothing to it. One of the two suffices, so alpha is divided by their number.
    - `prompt`: a prompted arm beats every model-free arm, and there is a prompted arm to which no
      tuned arm adds anything. One prompted arm suffices, so alpha is divided by their number.
    - `not-enough-evidence`: none of these was shown, or there are fewer than `min_rows` rows. Or
      one of them was shown, but not any more if answers that the token limit ended count as right.

    Args:
        arms: The arms and their measurements.
        rule: The thresholds.
        rows: The number of rows that were judged.
        uncut: The same with the cut answers of some arms counted as right, by who these are.
    """
    found = _decide(arms, rule, rows)
    if found.verdict == "not-enough-evidence":
        return found
    for who, measured in (uncut or {}).items():
        other = _decide(measured, rule, rows)
        if other.verdict != found.verdict:
            why = (
                f"Without answers that the token limit ended, the verdict might be {other.verdict} "
                f"instead of {found.verdict}: it is, if those of {who} count as right. Raise "
                "prompt.max_new_tokens, turn off thinking (model.chat_template_kwargs), or set "
                "evaluate.cut_answers=wrong if the limit is part of the task."
            )
            return _Judge(arms, rule).leave_open(why)
    return found


def _decide(arms: Field, rule: Rule, rows: int) -> Verdict:
    judge = _Judge(arms, rule)
    if rows < rule.min_rows:
        why = (
            f"Only {rows} rows were judged, and a verdict needs at least {rule.min_rows} "
            "(checks.min_test_rows)."
        )
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
    """Test each claim in a method of its own, which returns None if the claim was not shown."""

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
            why = (
                f"{arm} is cheaper than {names} and worse by less than {margin:.3f}, and it beats "
                "every other prompted arm and every model-free arm."
            )
        else:
            why = (
                f"{arm} beats every prompted arm and every model-free arm by more than "
                f"{margin:.3f}."
            )
        return Verdict("fine-tune", arm, why, self._name_cheaper(arm, winners))

    def _name_cheaper(self, arm: str, winners: Sequence[str]) -> str | None:
        """Describe winners that cost less than the recommended arm and may be as good."""
        cost = self._arms.cost
        margin = self._rule.margin
        found = []
        for other in winners:
            if cost.get(other, float("inf")) >= cost.get(arm, float("inf")):
                continue
            spread = self._arms.spreads[other, arm]
            if spread.high(self._alpha) > -margin:
                found.append(
                    f"Requests to {other} cost {cost[other] / cost[arm]:.0%} of those to {arm}, "
                    f"but {other} was not shown to be within {margin:.3f} of it: the difference "
                    f"is {spread.value:+.3f}, at least {spread.low(self._alpha):+.3f}."
                )
        return " ".join(found) or None

    def neither(self) -> Verdict | None:
        others = [arm for arm in self._all() if arm != CONSTANT_ARM]
        if not all(self._adds_nothing(arm, CONSTANT_ARM, self._alpha) for arm in others):
            return None
        why = (
            "No arm improves on always giving the most frequent answer by "
            f"{self._rule.margin:.3f} or more."
        )
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
            f"No model improves on {arm}, which needs none, by {self._rule.margin:.3f} or more.",
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
        why = (
            f"Tuning does not improve on {' or '.join(enough)} by {self._rule.margin:.3f} or more, "
            "so it is not worth its effort."
        )
        return Verdict("prompt", arm, why)

    def undecided(self) -> Verdict:
        """Say which arms the best tuned one does not beat, and which arm to use until then."""
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
            why = f"These rows do not show whether {tuned} is better than {names} by {margin}."
        else:
            open_question = (
                f"whether it is better than {names}" if unclear else "which arm is the best"
            )
            why = (
                f"{tuned} is not better than {', '.join(no_better)} by {margin}. These rows do not "
                f"show {open_question}."
            )
        return Verdict("not-enough-evidence", self._fallback(), why)

    def leave_open(self, why: str) -> Verdict:
        """Recommend what was shown to be worth using, whatever cut answers would have been."""
        arm = self._fallback()
        useful = self._rule.min_useful_value
        if arm and useful is not None and self._arms.estimates[arm].ci_low < useful:
            arm = None
        return Verdict("not-enough-evidence", arm, why, truncated=True)

    def hold_against_useful(self, found: Verdict) -> Verdict:
        """Overrule a verdict that recommends an arm that was not shown to be useful."""
        useful = self._rule.min_useful_value
        if useful is None or found.verdict == "neither":
            return found
        values = self._arms.estimates
        if all(values[arm].ci_high < useful for arm in self._all()):
            return Verdict(
                "neither", None, f"No arm reaches {useful:.3f} (evaluate.min_useful_value)."
            )
        arm = found.recommended_arm
        if arm is None or values[arm].ci_low >= useful:
            return found
        low = values[arm].ci_low
        why = (
            f"{arm} was not shown to reach {useful:.3f} (evaluate.min_useful_value): its interval starts at "
            f"{low:.3f}."
        )
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
        """List the prompted arms that beat every model-free arm."""
        alpha = self._alpha / max(len(self._arms.prompted), 1)
        return [
            p
            for p in self._arms.prompted
            if all(self._beats(p, m, alpha) for m in self._arms.model_free)
        ]

    def _fallback(self) -> str | None:
        """Choose the arm to use while tuning is undecided; None if no arm is worth using."""
        if prompts := self._useful_prompts():
            return self._cheapest(prompts)
        rivals = [arm for arm in self._arms.model_free if arm != CONSTANT_ARM]
        alpha = self._alpha / max(len(rivals), 1)
        winners = [arm for arm in rivals if self._beats(arm, CONSTANT_ARM, alpha)]
        return self._best(winners) if winners else None

    def _cheapest(self, arms: Sequence[str]) -> str:
        """Choose the cheapest arm of those that are not worse than the best one by the margin."""
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
