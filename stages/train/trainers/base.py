"""The common part of all trainers, which monitors training and resumes it exactly.

Two runs with the same seed see the same rows in the same order, and so does a run that was killed
and resumed. The order of an epoch depends only on the seed and the number of the epoch.
Transformers would draw it from the global generator, whose state at the start of the epoch is in no
checkpoint.
"""

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

from stages.core.config.train_options import LoraPlus, Muon
from stages.core.storage.files import write_json
from stages.train.monitoring.checkpoints import COMPLETE_MARKER
from stages.train.monitoring.training_progress import TrainingProgress
from stages.train.stored_examples import read_numbers
from stages.train.trainers.optimizers import create_optimizer
from stages.train.trainers.weight_names import keep_names

if TYPE_CHECKING:
    from stages.train.monitoring.validation import Validation

EXTRA = ("row", "length", "targets")  # columns of the examples that are not inputs of a model


class EpochOrder(Sampler[int]):
    """A sampler of the rows of an epoch, grouped by similar length if lengths are given."""

    def __init__(
        self,
        rows: int,
        lengths: Sequence[int] | None,
        batch: int,
        seed: int,
        shuffle: bool = True,
    ) -> None:
        """Set what the order depends on.

        Args:
            rows: The number of rows.
            lengths: The lengths of the rows, or None for an order without grouping.
            batch: The global batch size.
            seed: The seed of training.
            shuffle: Whether the order is random. Otherwise it is that of the rows.
        """
        self._shuffle = shuffle
        self._rows = rows
        self._lengths = lengths
        self._batch = batch
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._rows

    def __iter__(self) -> Iterator[int]:
        """Iterate over the positions of the rows."""
        if not self._shuffle:
            return iter(range(self._rows))
        generator = torch.Generator().manual_seed((self._seed << 20) + self.epoch)
        if self._lengths is None:
            return iter(torch.randperm(self._rows, generator=generator).tolist())
        return iter(get_length_grouped_indices(self._lengths, self._batch, generator=generator))


class Collator:
    """A collator that drops the columns that are not inputs of a model."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], Any], keep_rows: bool) -> None:
        """Wrap a collator.

        Args:
            collate: The collator.
            keep_rows: Whether each batch gets the positions of its rows as `row`.
        """
        self._collate = collate
        self._keep_rows = keep_rows

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        """Collate the examples of a batch."""
        batch = self._collate(
            [{key: example[key] for key in example if key not in EXTRA} for example in examples]
        )
        if not isinstance(batch, MutableMapping):  # GRPO needs the rows unchanged
            return self._collate(examples)
        if self._keep_rows:
            batch["row"] = torch.tensor([example["row"] for example in examples])
        return batch


class ResumableTrainerMixin:
    """A mixin that comes before a trainer of TRL or transformers in the bases of a class.

    Args:
        progress: The counters of the training.
        others: The arguments of the trainer.
    """

    optimizer: Any

    def __init__(self, *args: Any, progress: TrainingProgress, **others: Any) -> None:
        super().__init__(*args, **others)
        self.progress = progress
        self.validation: Validation | None = None
        """Scores validation rows at each evaluation if a metric selects the best checkpoint."""
        self.own_optimizer: LoraPlus | Muon | None = None
        """The optimizer of `train.optimizer`. None takes the one of `train.args.optim`."""
        self.order: EpochOrder | None = None
        self.initial_adapter: dict[str, torch.Tensor] = {}
        """What `stages.train.adapter.copy_initial` returned before training."""
        self.restore_settings: Callable[[], None] = lambda: None
        """What `stages.train.trainers.served_settings.keep_settings` returned before training."""
        self.data_collator: Any = Collator(self.data_collator, keep_rows=False)
        model: Any = self.model  # type: ignore[attr-defined]
        # peft writes its own model card beside every adapter.
        if hasattr(model, "create_or_update_model_card"):
            model.create_or_update_model_card = self.create_model_card
        self.add_callback(_Epochs(self))  # type: ignore[attr-defined]

    @property
    def evaluates_training_loss(self) -> bool:
        """Whether the loss of an evaluation is the same quantity as the loss of training."""
        return True

    @staticmethod
    def create_model_card(*args: Any, **others: Any) -> None:
        """Write no model card.

        TRL and peft would write one at every checkpoint, which nobody reads.
        """

    def autocast(self) -> torch.autocast:
        """Return the context in which training computes matrix products."""
        args: Any = self.args  # type: ignore[attr-defined]
        dtype = torch.float16 if args.fp16 else torch.bfloat16
        return torch.autocast(args.device.type, dtype, enabled=args.fp16 or args.bf16)

    def create_optimizer(self, model: Any = None) -> Any:
        """Create the optimizer of `train.optimizer`, or the one of `train.args.optim`.

        Raises:
            UserError: A library is missing, or the optimizer rejects its arguments.
        """
        plain = super().create_optimizer  # type: ignore[misc]
        if self.optimizer is None:
            given = self.model if model is None else model  # type: ignore[attr-defined]
            self.optimizer = create_optimizer(self, given, lambda: plain(model))
        return self.optimizer

    def take_rows(self, inputs: Any) -> list[int]:
        """Remove the positions of the rows from a batch and return them."""
        return inputs.pop("row").tolist()

    def count_tokens(self, inputs: Any) -> int:
        """Count the tokens of a batch without padding."""
        return int(
            sum(mask.sum() for key, mask in inputs.items() if key.endswith("attention_mask"))
        )

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Run the forward and backward pass of one batch.

        Raises:
            UserError: The loss is not a finite number, or training diverges.
        """
        rows = self.take_rows(inputs)
        tokens = self.count_tokens(inputs)
        loss = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        part, tokens, rows = self._of_all(float(loss), tokens, rows)
        self.progress.tokens += tokens
        self.progress.loss += part
        scheduler = self.lr_scheduler  # type: ignore[attr-defined]
        args = self.args  # type: ignore[attr-defined]
        rate = scheduler.get_last_lr()[0] if scheduler else args.learning_rate
        # The loss of a batch is its share of the loss of the step.
        whole = part * self.current_gradient_accumulation_steps  # type: ignore[attr-defined]
        step = self.state.global_step + 1  # type: ignore[attr-defined]
        steps = self.state.max_steps  # type: ignore[attr-defined]
        self.progress.divergence_guard.look(whole, step, rate, rows, last=step == steps)
        return loss

    def _of_all(self, loss: float, tokens: int, rows: list[int]) -> tuple[float, int, list[int]]:
        """Combine loss, tokens and rows over all processes, so that all of them decide alike.

        The batches of all processes have the same number of rows. The loss is their mean and the
        tokens are their sum.
        """
        args: Any = self.args  # type: ignore[attr-defined]
        if args.world_size == 1:
            return loss, tokens, rows
        mine = torch.tensor([[loss, tokens, *rows]], dtype=torch.float64, device=args.device)
        found = self.accelerator.gather(mine).cpu()  # type: ignore[attr-defined]
        return (
            float(found[:, 0].mean()),
            int(found[:, 1].sum()),
            found[:, 2:].flatten().int().tolist(),
        )

    def evaluate(self, *args: Any, **others: Any) -> dict[str, float]:
        """Evaluate as the trainer does, without counting the time as training time.

        The divergence guard compares the running mean of the loss with its lowest value so far. The
        loss of the first evaluation is the initial value if training has the same loss.
        """
        with self.progress.paused():
            found = super().evaluate(*args, **others)  # type: ignore[misc]
        if self.evaluates_training_loss:
            self.progress.divergence_guard.begin(found["eval_loss"])
        return found

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **others: Any) -> Any:
        """Evaluate as the trainer does and add the metric of `train.best` to the results."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **others)  # type: ignore[misc]
        if self.validation:
            found = self.validation.score(self)
            output.metrics.update(
                {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
            )
        return output

    def get_train_dataloader(self) -> Any:
        """Return a loader whose batches have the positions of their rows."""
        plain = self.data_collator
        self.data_collator = Collator(self.data_collator._collate, keep_rows=True)
        try:
            return super().get_train_dataloader()  # type: ignore[misc]
        finally:
            self.data_collator = plain

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset  # type: ignore[attr-defined]
        args: Any = self.args  # type: ignore[attr-defined]
        grouped = args.train_sampling_strategy == "group_by_length"
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.order = EpochOrder(
            len(dataset),
            read_numbers(dataset, "length").tolist() if grouped else None,
            batch,
            args.seed,
            shuffle=args.train_sampling_strategy != "sequential",
        )
        return self.order

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with keep_names(self.accelerator.unwrap_model(self.model)):  # type: ignore[attr-defined]
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
        self.accelerator.wait_for_everyone()  # type: ignore[attr-defined]
        if self.is_world_process_zero():  # type: ignore[attr-defined]
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"  # type: ignore[attr-defined]
            write_json(folder / COMPLETE_MARKER, self.progress.dump())


class _Epochs(TrainerCallback):
    """Sets the epoch of the sampler, also if training resumes in the middle of an epoch."""

    def __init__(self, trainer: ResumableTrainerMixin) -> None:
        self._trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the number of the epoch."""
        if self._trainer.order:
            self._trainer.order.epoch = int(state.epoch)
