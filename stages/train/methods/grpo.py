"""Learning from rewards with group relative policy optimization (grpo).

The model samples several answers to each prompt and learns from those that score above the others.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Sampler
from trl import GRPOConfig, GRPOTrainer

from stages.core.data.encoding import encode_texts
from stages.core.data.prompts import encode_segments
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.models.generation import add_end_tokens
from stages.train.examples import refuse_too_long
from stages.train.methods.base import Method
from stages.train.methods.judged_answers import get_prompt
from stages.train.methods.rewards import get_rewards
from stages.train.monitoring.divergence import RUNAWAY
from stages.train.stored_examples import in_chunks
from stages.train.trainers.base import EpochOrder, ResumableTrainerMixin
from stages.train.trainers.kept_weights import kept_weights

if TYPE_CHECKING:
    from stages.train.monitoring.training_progress import TrainingProgress


class Grpo(Method):
    """Group relative policy optimization, which compares the scores of answers with their mean."""

    arguments = GRPOConfig

    @property
    def fixed_arguments(self) -> dict[str, Any]:
        """Set the weights of the rewards."""
        rewards = self.config.train.grpo_rewards.values()
        return {"reward_weights": [reward.weight for reward in rewards]}

    def make_examples(self, records: Sequence[Record]) -> Iterator[dict[str, Any]]:
        """Yield examples with `prompt` and `record`, the whole record for the metric.

        Raises:
            UserError: A record is of another kind, or a prompt leaves no room for the longest
                answer.
        """
        self.check_kinds(records)
        limit = self.config.model.max_length
        answer = self.config.train.args.get("max_completion_length") or 0
        too_long: list[tuple[str, int]] = []
        for row, (record, prompt, length) in enumerate(self._encode(records)):
            if length + answer > limit:
                too_long.append((record.id, length + answer))
            yield {
                "row": row,
                "prompt": prompt,
                "record": record.dump().decode(),
                "length": length,
            }
        refuse_too_long(too_long, limit)

    def _encode(self, records: Sequence[Record]) -> Iterator[tuple[Record, str, int]]:
        """Yield each record, the text of its prompt and the number of its tokens."""
        instruction = self.config.prompt.tuned_system_prompt
        for chunk in in_chunks(records):
            segments = [get_prompt(self.tokenizer, record, instruction) for record in chunk]
            encoded = encode_segments(self.tokenizer, [[segment] for segment in segments])
            for record, segment, example in zip(chunk, segments, encoded, strict=True):
                yield record, segment.text, len(example.ids)

    def get_row_ids(self, row: dict[str, Any]) -> list[int]:
        """Return the token ids of the prompt."""
        return encode_texts(self.tokenizer, [row["prompt"]])[0]

    def make_trainer(self, progress: "TrainingProgress", **common: Any) -> "GrpoTrainer":
        """Create TRL's trainer with the rewards of the configuration.

        Raises:
            UserError: A reward cannot be used, or there are too few rows for a batch.
        """
        args = common["args"]
        rows = common["train_dataset"]
        rewards: Any = get_rewards(self)
        prompts = args.generation_batch_size // args.num_generations
        if len(rows) < prompts:
            raise UserError(
                f"{len(rows)} training row(s), but a batch needs {prompts} prompts. Lower "
                "train.args.gradient_accumulation_steps or "
                "train.args.per_device_train_batch_size."
            )
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


class Groups(EpochOrder):
    """TRL's order of prompts, in which each prompt is repeated once per answer.

    As in `EpochOrder`, the order depends only on the seed and the number of the epoch.
    """

    def __init__(self, repeated: Any, seed: int) -> None:
        """Wrap TRL's `RepeatSampler`."""
        super().__init__(len(repeated), None, 1, seed)
        self._repeated = repeated

    def __iter__(self) -> Iterator[int]:
        """Iterate over the positions of the rows in an epoch."""
        if self._repeated.shuffle:
            self._repeated.generator.manual_seed((self._seed << 20) + self.epoch)
        return iter(self._repeated)


class GrpoTrainer(ResumableTrainerMixin, GRPOTrainer):
    """TRL's trainer for prompts that are already rendered."""

    def __init__(self, *args: Any, **others: Any) -> None:
        super().__init__(*args, **others)
        self.progress.divergence_guard.largest_rise = get_largest_rise(self.args)

    @property
    def evaluates_training_loss(self) -> bool:
        """Return False: training has a loss near 0, and evaluations minus the mean reward."""
        return False

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Tokenize prompts as generation does.

        TRL would add special tokens, which a rendered prompt already has.
        """
        return encode_texts(self._tokenizer, prompts), None, {}

    def _generate_single_turn(self, *args: Any, **others: Any) -> Any:
        """Generate answers as `compute_loss` reads them.

        TRL generates without autocast, where an adapter in float32 does not take the bfloat16 of
        the model.
        """
        kept: AbstractContextManager[None] = nullcontext()
        if self.use_transformers_continuous_batching:
            kept = kept_weights(self.accelerator.unwrap_model(self.model_wrapped))
        with self.autocast(), kept:
            return super()._generate_single_turn(*args, **others)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        repeated = GRPOTrainer._get_train_sampler(self, train_dataset)
        repeated.shuffle &= self.args.train_sampling_strategy != "sequential"
        self.order = Groups(repeated, self.args.seed)
        return self.order

    def take_rows(self, inputs: list[dict[str, Any]]) -> list[int]:
        """Return the positions of the rows of a batch.

        A batch is a list here, in which each row is repeated once per answer.
        """
        return list(dict.fromkeys(example["row"] for example in inputs))

    def count_tokens(self, inputs: Any) -> int:
        """Return 0, because `compute_loss` counts tokens once the model has answered."""
        return 0

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **others: Any
    ) -> Any:
        """Compute TRL's loss and count the tokens of prompts and answers."""
        if self.model.training:
            tokens = inputs["prompt_mask"].sum() + inputs["completion_mask"].sum()
            self.progress.tokens += int(self.accelerator.gather(tokens).sum())
        return super().compute_loss(model, inputs, *args, **others)

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **others: Any) -> Any:
        """Evaluate with minus the mean reward as the loss.

        TRL's loss is about 0 whatever the model has learned. All evaluations sample their answers
        with the same seed and leave the random state of training unchanged.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.args.seed + self.args.process_index)
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **others)
        rewards = self._metrics["eval"]["reward"]
        output.metrics[f"{metric_key_prefix}_loss"] = -sum(rewards) / len(rewards)
        return output
