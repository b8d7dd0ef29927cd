"""Test the claims of a verdict one by one."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.core.config.arms import CONSTANT_ARM
from stages.core.config.register import Answer
from stages.evaluate.analysis.arms import Comparisons


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


class Claims(Comparisons):
    """Tests each claim in a method of its own, which returns None if the claim was not shown."""

    def fine_tune(self) -> Verdict | None:
        """Claim that a tuned arm is worth its effort."""
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
        """Claim that nothing improves on a constant answer."""
        others = [arm for arm in self._all() if arm != CONSTANT_ARM]
        if not all(self._adds_nothing(arm, CONSTANT_ARM, self._alpha) for arm in others):
            return None
        why = (
            "No arm improves on always giving the most frequent answer by "
            f"{self._rule.margin:.3f} or more."
        )
        return Verdict("neither", None, why)

    def no_model(self) -> Verdict | None:
        """Claim that an arm without a model is enough."""
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
        """Claim that a prompt is enough."""
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
        if arm and useful is not None and self._get_interval(arm).ci_low < useful:
            arm = None
        return Verdict("not-enough-evidence", arm, why, truncated=True)

    def hold_against_useful(self, found: Verdict) -> Verdict:
        """Overrule a verdict that recommends an arm that was not shown to be useful."""
        useful = self._rule.min_useful_value
        if useful is None or found.verdict == "neither":
            return found
        if all(self._get_interval(arm).ci_high < useful for arm in self._all()):
            return Verdict(
                "neither", None, f"No arm reaches {useful:.3f} (evaluate.min_useful_value)."
            )
        arm = found.recommended_arm
        if arm is None:
            return found
        low = self._get_interval(arm).ci_low
        if low >= useful:
            return found
        why = (
            f"{arm} was not shown to reach {useful:.3f} (evaluate.min_useful_value): its interval starts at "
            f"{low:.3f}."
        )
        return Verdict("not-enough-evidence", None, why)
