"""Render the model card: what the model is, how it was measured and where it comes from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core.data.markdown import as_code_block
from stages.core.data.pages import get_template
from stages.core.models.candidates import Candidate
from stages.core.models.classifier import TASKS, get_limit
from stages.core.tracking.runs import PREFIX
from stages.register.condition import Condition
from stages.register.gate import describe_purpose
from stages.register.registry import lineage_tags

TEMPLATE = Path(__file__).parent / "templates/model_card.md.j2"


def render_card(
    candidate: Candidate, report: dict[str, Any], conditions: Sequence[Condition]
) -> str:
    """Render the Markdown for `reports/model_card.md` and the registered version's description."""
    config = candidate.config
    training = candidate.read_training()
    return get_template(TEMPLATE, code=as_code_block, estimate=_say_estimate).render(
        name=config.register_.name,
        alias=config.register_.alias,
        report=report,
        arm=candidate.name,
        training=training,
        conditions=conditions,
        purpose=describe_purpose(config.register_.gate, report["forgetting"]),
        instruction=config.prompt.tuned_system_prompt,
        max_new_tokens=config.prompt.max_new_tokens,
        task=TASKS.get(config.train.method),
        labels=training.get("labels"),
        max_length=get_limit(config),
        tags={
            key.removeprefix(PREFIX): value
            for key, value in lineage_tags(candidate, report).items()
        },
    )


def _say_estimate(estimate: Mapping[str, float | None]) -> str:
    """Write a value with its interval, if there were enough groups of rows for one."""
    value = f"{estimate['value']:.3f}"
    if estimate["ci_low"] is None or estimate["ci_high"] is None:
        return f"{value} (too few groups for an interval)"
    return f"{value} ({estimate['ci_low']:.3f} to {estimate['ci_high']:.3f})"
