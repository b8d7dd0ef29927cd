"""The common part of TRL's trainers whose model answers the prompts of a batch before it learns."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler

from stages.core.data.encoding import encode_texts
from stages.train.trainers.base import EpochOrder, ResumableTrainerMixin


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


class OnPolicyTrainerMixin(ResumableTrainerMixin):
    """A mixin that comes before a trainer of TRL, for prompts that are already rendered."""

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Tokenize prompts as generation does.

        TRL would add special tokens, which a rendered prompt already has.
        """
        return encode_texts(self._tokenizer, prompts), None, {}  # type: ignore[attr-defined]

    def _generate_single_turn(self, *args: Any, **others: Any) -> Any:
        """Generate answers as `compute_loss` reads them.

        TRL generates without autocast, where an adapter in float32 does not take the bfloat16 of
        the model.
        """
        with self.autocast():
            return super()._generate_single_turn(*args, **others)  # type: ignore[misc]

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        # This is TRL's order. That of `ResumableTrainerMixin` knows no repeated prompts.
        repeated: Any = super(ResumableTrainerMixin, self)._get_train_sampler(train_dataset)  # type: ignore[misc]
        args: Any = self.args  # type: ignore[attr-defined]
        repeated.shuffle &= args.train_sampling_strategy != "sequential"
        self.order = Groups(repeated, args.seed)
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
        """Compute TRL's loss and count the tokens of prompts and answers.

        TRL computes the loss of distillation without autocast, because it calls the layers below the
        head by themselves.
        """
        if self.model.training:  # type: ignore[attr-defined]
            tokens = inputs["prompt_mask"].sum() + inputs["completion_mask"].sum()
            self.progress.tokens += int(self.accelerator.gather(tokens).sum())  # type: ignore[attr-defined]
        with self.autocast():
            return super().compute_loss(model, inputs, *args, **others)  # type: ignore[misc]

    def evaluation_loop(self, *args: Any, **others: Any) -> Any:
        """Evaluate as TRL does, with answers that all evaluations sample with the same seed.

        The random state of training stays unchanged.
        """
        arguments: Any = self.args  # type: ignore[attr-defined]
        with torch.random.fork_rng():
            torch.manual_seed(arguments.seed + arguments.process_index)
            return super().evaluation_loop(*args, **others)
