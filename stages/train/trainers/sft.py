"""TRL's trainer, with micro-batches bounded in tokens and, on a CPU, no padding and logits for target positions only.

Why: on two cores a batch of 16 rows in one piece holds some 2.4 MB of activations a token, and logits of all positions
over a vocabulary of 49,152 are a fifth of the forward pass. Both are bounded here; `metrics/train.json` has the rate
and the peak memory of each run.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTTrainer

from stages.core.models.generation import batches
from stages.train.examples import IGNORED
from stages.train.trainers.base import Resumable
from stages.train.trainers.packing import PER_ROW, join, pack

Batch = dict[str, torch.Tensor]


class TokenBudget(SFTTrainer):
    """An `SFTTrainer` for examples that are tokenized already and padded on the left.

    Args:
        micro_batch_tokens: in one forward and backward pass, padding included; a longer row goes alone.
        others: as for `SFTTrainer`.
    """

    def __init__(self, *args: Any, micro_batch_tokens: int, **others: Any) -> None:
        super().__init__(*args, **others)
        self._micro_batch_tokens = micro_batch_tokens
        self._packs = self.model.config._attn_implementation == PER_ROW

    def training_step(
        self, model: Any, inputs: Batch, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Forward and backward of one batch in micro-batches: their losses are normalised over the whole batch."""
        parts = self._in_step(list(self._micro_batches(inputs)))
        state = self.accelerator.gradient_state
        losses = []
        synchronised = state.sync_gradients
        for i, part in enumerate(parts):
            last = i == len(parts) - 1  # several processes add their gradients up once a batch
            state._set_sync_gradients(synchronised and last)  # by this DeepSpeed knows when to step
            # Sharded gradients are added up in each part: whole ones, kept for the last, are what does not fit.
            with nullcontext() if last or self.is_fsdp_enabled else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, part, num_items_in_batch))
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Mean negative log-likelihood of the target tokens, by their weights where they have any. TRL's own on a GPU
        and for its other losses."""
        plain = (
            self.args.loss_type == "nll"
            and self.label_smoother is None
            and not self.aux_loss_enabled
        )
        theirs = inputs["input_ids"].device.type != "cpu" or return_outputs or not plain
        if (
            theirs and "weight" not in inputs
        ):  # TRL knows no weights; with other losses the schema allows none
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        total = self._sum_of_losses(model, inputs)
        if num_items_in_batch is None:
            return total / (inputs["labels"] != IGNORED).sum().clamp(min=1)
        # Gradients are averaged over processes, targets counted over all of them: as `Trainer.compute_loss` has it.
        processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return processes * total / torch.as_tensor(num_items_in_batch).clamp(min=1)

    @torch.no_grad()
    def evaluation_loop(
        self, dataloader: Any, *args: Any, metric_key_prefix: str = "eval", **others: Any
    ) -> EvalLoopOutput:
        """The mean over all target tokens of the rows, in micro-batches too; each process takes its share of them."""
        model: Any = self.model.eval()
        rows = [dataloader.dataset[i] for i in range(len(dataloader.dataset))]
        parts = self._divide([len(row["input_ids"]) for row in rows])
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        rank = self.args.process_index
        world = self.args.world_size
        for i in range(
            rank, world * -(-len(parts) // world), world
        ):  # as many forward passes in every process
            inputs = self._prepare_inputs(
                self.data_collator([rows[k] for k in parts[i % len(parts)]])
            )
            with self.compute_loss_context_manager():
                loss = self._sum_of_losses(model, inputs)
            if i < len(parts):
                sums += torch.stack([loss.double(), (inputs["labels"] != IGNORED).sum().double()])
        total, tokens = self.accelerator.reduce(sums, "sum").tolist()
        metrics = {f"{metric_key_prefix}_loss": total / max(tokens, 1)}
        return EvalLoopOutput(
            predictions=(), label_ids=None, metrics=metrics, num_samples=len(rows)
        )

    def _sum_of_losses(self, model: Any, inputs: Batch) -> torch.Tensor:
        read = join(inputs) if self._packs else dict(inputs)
        targets = read.pop("labels")[:, 1:]
        weights = read.pop("weight", None)
        columns = (targets != IGNORED).any(0).nonzero().squeeze(-1)
        logits = model(**read, use_cache=False, logits_to_keep=columns).logits
        kept = targets[:, columns]
        trained = kept != IGNORED
        if weights is None:
            return cross_entropy(logits[trained].float(), kept[trained], reduction="sum")
        losses = cross_entropy(logits[trained].float(), kept[trained], reduction="none")
        return (losses * weights[:, 1:][:, columns][trained]).sum()

    def _micro_batches(self, inputs: Batch) -> Iterator[Batch]:
        """The rows of a batch in parts of at most the budget, each without needless padding."""
        lengths = inputs["attention_mask"].sum(-1).tolist()
        for indices in self._divide(lengths):
            width = int(max(lengths[i] for i in indices))
            yield {key: value[indices, -width:] for key, value in inputs.items()}

    def _divide(self, lengths: list[int]) -> list[list[int]]:
        limit = self._micro_batch_tokens
        return pack(lengths, limit) if self._packs else list(batches(lengths, limit))

    def _in_step(self, parts: list[Batch]) -> list[Batch]:
        """As many parts in every process, where each forward pass fetches weights from all of them."""
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            return parts
        count = torch.tensor([len(parts)], device=self.args.device)
        wanted = int(self.accelerator.gather(count).max())
        while (
            len(parts) < wanted
        ):  # processes have as many rows each, so that there is one to split
            part = parts.pop(max(range(len(parts)), key=lambda i: len(parts[i]["input_ids"])))
            half = len(part["input_ids"]) // 2
            parts += [
                {key: value[rows] for key, value in part.items()}
                for rows in (slice(half), slice(half, None))
            ]
        return parts


class AnswersTrainer(Resumable, TokenBudget):
    """The trainer of supervised fine-tuning."""
