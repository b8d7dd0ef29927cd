"""Learning from rewards with group relative policy optimization (grpo).

The model samples several answers to each prompt and learns from those that score above the others.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from trl import GRPOConfig, GRPOTrainer

from stages.core.data.records import Record
from stages.core.models.generation import add_end_tokens
from stages.train.methods.on_policy import OnPolicy, check_rows
from stages.train.methods.rewards import get_rewards
from stages.train.monitoring.divergence import RUNAWAY
from stages.train.trainers.kept_weights import kept_weights
from stages.train.trainers.on_policy import OnPolicyTrainerMixin

if TYPE_CHECKING:
    from stages.train.monitoring.training_progress import TrainingProgress


class Grpo(OnPolicy):
    """Group relative policy optimization, which compares the scores of answers with their mean."""

    arguments = GRPOConfig

    @property
    def fixed_arguments(self) -> dict[str, Any]:
        """Set the weights of the rewards too."""
        rewards = self.config.train.grpo_rewards.values()
        weights = [reward.weight for reward in rewards]
        return {**super().fixed_arguments, "reward_weights": weights}

    def make_examples(self, records: Sequence[Record]) -> Iterator[dict[str, Any]]:
        """Yield examples with `prompt` and `record`, the whole record for the metric.

        Raises:
            UserError: A record is of another kind, or a prompt leaves no room for the longest
                answer.
        """
        for record, row in zip(records, super().make_examples(records), strict=True):
            yield {**row, "record": record.dump().decode()}

    def make_trainer(self, progress: "TrainingProgress", **common: Any) -> "GrpoTrainer":
        """Create TRL's trainer with the rewards of the configuration.

        Raises:
            UserError: A reward cannot be used, or there are too few rows for a batch.
        """
        args = common["args"]
        rewards: Any = get_rewards(self)
        check_rows(len(common["train_dataset"]), args.generation_batch_size // args.num_generations)
        add_end_tokens(common["model"], self.tokenizer)  # TRL ends answers by these settings
        if args.beta and not common["peft_config"]:  # TRL loads the reference model again
            args.model_init_kwargs = self.base.arguments
        return GrpoTrainer(reward_funcs=rewards, progress=progress, **common)


def get_largest_rise(args: GRPOConfig) -> float | None:
    """Return how far the loss of GRPO may rise without a divergence.

    The advantage of an answer is its reward minus the mean of its group, divided by the standard
    deviation. Among `n` values it is at most `sqrt(n - 1)`, whatever the scale of the rewards is
    (Samuelson's inequality), and the loss is a mean of such values with either sign. A larger rise
    comes from the KL term. Without that division the scale of the rewards is that of the loss, and
    there is no limit.
    """
    if args.scale_rewards in ("none", False):
        return None
    rewards = args.num_generations
    if args.scale_rewards == "batch":
        rewards = args.generation_batch_size
    return max(RUNAWAY, 2 * math.sqrt(rewards - 1))


class GrpoTrainer(OnPolicyTrainerMixin, GRPOTrainer):
    """TRL's trainer for prompts that are already rendered."""

    def __init__(self, *args: Any, **others: Any) -> None:
        super().__init__(*args, **others)
        self.progress.divergence_guard.largest_rise = get_largest_rise(self.args)

    @property
    def evaluates_training_loss(self) -> bool:
        """Return False: training has a loss near 0, and evaluations minus the mean reward."""
        return False

    def _generate_single_turn(self, *args: Any, **others: Any) -> Any:
        """Generate answers, and keep the weights if continuous batching would cast them."""
        kept: AbstractContextManager[None] = nullcontext()
        if self.use_transformers_continuous_batching:
            kept = kept_weights(self.accelerator.unwrap_model(self.model_wrapped))
        with kept:
            return super()._generate_single_turn(*args, **others)

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **others: Any) -> Any:
        """Evaluate with minus the mean reward as the loss.

        TRL's loss is about 0 whatever the model has learned.
        """
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **others)
        rewards = self._metrics["eval"]["reward"]
        output.metrics[f"{metric_key_prefix}_loss"] = -sum(rewards) / len(rewards)
        return output
