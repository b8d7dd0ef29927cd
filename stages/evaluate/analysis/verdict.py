"""Apply the rule that turns comparisons into a verdict.

Arms form a ladder of effort: one constant answer, then the other model-free arms (`nearest`,
`lookup`), then prompts, then tuned models. Each step up must win by the margin, and each claim
rests on a bound with the chosen confidence. `decide` documents which claim needs which bound.
`benchmarks.verdict` measures how often each claim is wrong.
"""

from collections.abc import Mapping

from stages.evaluate.analysis.arms import Field, Rule
from stages.evaluate.analysis.claims import Claims, Verdict


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
            return Claims(arms, rule).leave_open(why)
    return found


def _decide(arms: Field, rule: Rule, rows: int) -> Verdict:
    claims = Claims(arms, rule)
    if rows < rule.min_rows:
        why = (
            f"Only {rows} rows were judged, and a verdict needs at least {rule.min_rows} "
            "(checks.min_test_rows)."
        )
        return Verdict("not-enough-evidence", None, why)
    found = (
        claims.fine_tune()
        or claims.neither()
        or claims.no_model()
        or claims.prompt()
        or claims.undecided()
    )
    return claims.hold_against_useful(found)
