"""What every trainer here has beyond TRL's and transformers': it is watched, and it goes on exactly where it was.

Two runs with one seed see the same rows in the same order, and so does one that was killed and goes on: the order of an
epoch hangs on the seed and on its number alone (transformers draws it from the global generator, whose state at the
beginning of the epoch no checkpoint has).
"""

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

from stages.core.storage.files import write_json
from stages.train.monitoring.checkpoints import MARK
from stages.train.monitoring.training_progress import Journal

if TYPE_CHECKING:
    from stages.train.monitoring.validation import Validation

EXTRA = ("row", "length")  # columns of the examples that no model takes


class EpochOrder(Sampler[int]):
    """Rows in the order of an epoch, of like length together where lengths are given."""

    def __init__(self, rows: int, lengths: Sequence[int] | None, batch: int, seed: int) -> None:
        """Order `rows` rows in batches of `batch`, which is the global batch size."""
        self._rows = rows
        self._lengths = lengths
        self._batch = batch
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        """All rows."""
        return self._rows

    def __iter__(self) -> Iterator[int]:
        """Places of the rows."""
        generator = torch.Generator().manual_seed((self._seed << 20) + self.epoch)
        if self._lengths is None:
            return iter(torch.randperm(self._rows, generator=generator).tolist())
        return iter(get_length_grouped_indices(self._lengths, self._batch, generator=generator))


class Collator:
    """A collator that passes over the columns which no model takes."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], Any], keep_rows: bool) -> None:
        """Wrap `collate`; `keep_rows` adds the places of the rows to each batch, as `row`."""
        self._collate = collate
        self._keep_rows = keep_rows

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        """What the collator makes of them."""
        batch = self._collate(
            [{key: example[key] for key in example if key not in EXTRA} for example in examples]
        )
        if not isinstance(batch, MutableMapping):  # GRPO takes the rows as they are
            return self._collate(examples)
        if self._keep_rows:
            batch["row"] = torch.tensor([example["row"] for example in examples])
        return batch


class Resumable:
    """A mixin for trainers of TRL and of transformers, put before them.

    Args:
        journal: what is counted.
        others: as for the trainer.
    """

    def __init__(self, *args: Any, journal: Journal, **others: Any) -> None:
        super().__init__(*args, **others)
        self.journal = journal
        self.validation: Validation | None = None
        """Answers validation rows at each evaluation, where the best checkpoint goes by a metric."""
        self.order: EpochOrder | None = None
        self.data_collator: Any = Collator(self.data_collator, keep_rows=False)
        model: Any = self.model  # type: ignore[attr-defined]
        if hasattr(
            model, "create_or_update_model_card"
        ):  # peft writes its own card beside every adapter
            model.create_or_update_model_card = self.create_model_card
        self.add_callback(_Epochs(self))  # type: ignore[attr-defined]

    @staticmethod
    def create_model_card(*args: Any, **others: Any) -> None:
        """Write no model card. TRL and peft would write one at every checkpoint, which nobody reads."""

    def take_rows(self, inputs: Any) -> list[int]:
        """Take the places of the rows of a batch out of it."""
        return inputs.pop("row").tolist()

    def count_tokens(self, inputs: Any) -> int:
        """Tokens in a batch, padding left out."""
        return int(
            sum(mask.sum() for key, mask in inputs.items() if key.endswith("attention_mask"))
        )

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Forward and backward of one batch.

        Raises:
            UserError: the loss is no number, or training diverges.
        """
        rows = self.take_rows(inputs)
        tokens = self.count_tokens(inputs)
        loss = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        part, tokens, rows = self._of_all(float(loss), tokens, rows)
        self.journal.tokens += tokens
        self.journal.loss += part
        scheduler = self.lr_scheduler  # type: ignore[attr-defined]
        args = self.args  # type: ignore[attr-defined]
        rate = scheduler.get_last_lr()[0] if scheduler else args.learning_rate
        whole = part * self.current_gradient_accumulation_steps  # type: ignore[attr-defined]  # its share of the step's
        step = self.state.global_step + 1  # type: ignore[attr-defined]
        steps = self.state.max_steps  # type: ignore[attr-defined]
        self.journal.watch.look(whole, step, rate, rows, last=step == steps)
        return loss

    def _of_all(self, loss: float, tokens: int, rows: list[int]) -> tuple[float, int, list[int]]:
        """The same of the batches of all processes, which are of one size: so that all of them judge alike."""
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
        """As the trainer's, not counted as time of training; the first one is what the loss may not run away from."""
        with self.journal.paused():
            found = super().evaluate(*args, **others)  # type: ignore[misc]
        self.journal.watch.begin(found["eval_loss"])
        return found

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **others: Any) -> Any:
        """As the trainer's, with the metric of `train.best` among the numbers."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **others)  # type: ignore[misc]
        if self.validation:
            found = self.validation.score(self)
            output.metrics.update(
                {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
            )
        return output

    def get_train_dataloader(self) -> Any:
        """Batches with the places of their rows."""
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
            len(dataset), list(dataset["length"]) if grouped else None, batch, args.seed
        )
        return self.order

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        self.accelerator.wait_for_everyone()  # type: ignore[attr-defined]
        if self.is_world_process_zero():  # type: ignore[attr-defined]
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"  # type: ignore[attr-defined]
            write_json(folder / MARK, self.journal.dump())


class _Epochs(TrainerCallback):
    """Tells the order which epoch begins, also in the middle of one that goes on."""

    def __init__(self, trainer: Resumable) -> None:
        self._trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count."""
        if self._trainer.order:
            self._trainer.order.epoch = int(state.epoch)
