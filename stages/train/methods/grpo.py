"""Learning from a metric (grpo): of several answers of its own to a prompt, those that score above the others."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from trl import GRPOConfig, GRPOTrainer

from stages.core.config.arms import TUNED_ARM
from stages.core.data.predictions import Prediction
from stages.core.data.prompts import encode_segments
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.metrics.metrics import Metrics
from stages.train.examples import check_lengths
from stages.train.methods.base import Method
from stages.train.methods.judged_answers import get_prompt
from stages.train.trainers.base import EpochOrder, Resumable

if TYPE_CHECKING:
    from stages.train.monitoring.training_progress import Journal


class Grpo(Method):
    """Group relative policy optimization: own answers to a prompt, scored by a metric, against their mean."""

    arguments = GRPOConfig

    def get_examples(self, records: Sequence[Record]) -> Dataset:
        """`prompt`, and as `record` all that the metric may want of the row.

        Raises:
            UserError: records of other kinds, or a prompt that leaves no room for the longest answer.
        """
        self.check_kinds(records)
        segments = [
            get_prompt(self.tokenizer, r, self.config.prompt.short_instruction) for r in records
        ]
        lengths = [
            len(e.ids) for e in encode_segments(self.tokenizer, [[segment] for segment in segments])
        ]
        answer = self.config.train.args.get("max_completion_length") or 0
        check_lengths(
            records, [length + answer for length in lengths], self.config.model.max_length
        )
        rows = zip(records, segments, lengths, strict=True)
        return Dataset.from_list(
            [
                {
                    "row": row,
                    "prompt": segment.text,
                    "record": record.dump().decode(),
                    "length": length,
                }
                for row, (record, segment, length) in enumerate(rows)
            ]
        )

    def make_trainer(self, journal: "Journal", **common: Any) -> "GrpoTrainer":
        """TRL's, with the metric as its one reward.

        Raises:
            UserError: there is no such metric or it refuses its options, or there are too few rows for a batch.
        """
        train = self.config.train
        args = common["args"]
        rows = common["train_dataset"]
        reward = MetricReward(str(train.reward.metric), train.reward.options)
        prompts = args.generation_batch_size // args.num_generations
        if len(rows) < prompts:
            raise UserError(
                f"{len(rows)} training row(s), but a batch has answers to {prompts} prompts: lower "
                "train.args.gradient_accumulation_steps or train.args.per_device_train_batch_size"
            )
        if args.beta and not common["peft_config"]:  # TRL loads the reference anew
            args.model_init_kwargs = self.base.arguments
        return GrpoTrainer(reward_funcs=[reward], journal=journal, **common)


class MetricReward:
    """What a metric gives each answer alone; less the better of two where less is better."""

    def __init__(self, metric: str, options: dict[str, Any]) -> None:
        """Load the metric.

        Raises:
            UserError: there is no such metric.
        """
        try:
            self._metrics = Metrics([metric], {metric: options})
        except UserError as error:
            raise UserError(f"train.reward: {error}") from None
        self._sign = -1.0 if self._metrics.lower_is_better(metric) else 1.0
        self.__name__ = metric  # for TRL's logs

    def __call__(
        self,
        completions: Sequence[str],
        completion_ids: Sequence[list[int]],
        record: Sequence[str],
        **_: Any,
    ) -> list[float]:
        """A number for each answer.

        Raises:
            UserError: the metric refuses its options.
        """
        records = [Record.load(line.encode()) for line in record]
        answers = [
            Prediction(r.id, TUNED_ARM, text, 0, len(ids), 0.0)
            for r, text, ids in zip(records, completions, completion_ids, strict=True)
        ]
        try:
            scores = self._metrics.score_records(answers, records)[self.__name__]
        except UserError as error:
            raise UserError(f"train.reward: {error}") from None
        return [self._sign * float(value) for value in scores.values]


class Groups(EpochOrder):
    """TRL's order of prompts, each as often as it is answered, by the number of the epoch as everywhere here."""

    def __init__(self, repeated: Any, seed: int) -> None:
        """Wrap TRL's `RepeatSampler`."""
        super().__init__(len(repeated), None, 1, seed)
        self._repeated = repeated

    def __iter__(self) -> Iterator[int]:
        """The places of an epoch."""
        if self._repeated.shuffle:
            self._repeated.generator.manual_seed((self._seed << 20) + self.epoch)
        return iter(self._repeated)


class GrpoTrainer(Resumable, GRPOTrainer):
    """For prompts that are rendered already."""

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """As generation does: TRL adds special tokens, which a rendered prompt has already."""
        return self._tokenizer(prompts, add_special_tokens=False)["input_ids"], None, {}

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        self.order = Groups(GRPOTrainer._get_train_sampler(self, train_dataset), self.args.seed)
        return self.order

    def take_rows(self, inputs: list[dict[str, Any]]) -> list[int]:
        """A batch is a list of rows here, each as often as it is answered."""
        return list(dict.fromkeys(example["row"] for example in inputs))

    def count_tokens(self, inputs: Any) -> int:
        """None before the model has answered: `compute_loss` counts."""
        return 0

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **others: Any
    ) -> Any:
        """TRL's, counting the tokens of prompts and answers."""
        if self.model.training:
            tokens = inputs["prompt_mask"].sum() + inputs["completion_mask"].sum()
            self.journal.tokens += int(self.accelerator.gather(tokens).sum())
        return super().compute_loss(model, inputs, *args, **others)

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **others: Any) -> Any:
        """With minus the mean reward as the loss: TRL's is about 0 whatever the model has learned.

        All evaluations draw their answers by the same seed, which training does not notice.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.args.seed + self.args.process_index)
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **others)
        rewards = self._metrics["eval"]["reward"]
        output.metrics[f"{metric_key_prefix}_loss"] = -sum(rewards) / len(rewards)
        return output
