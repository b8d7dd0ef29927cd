"""TRL's SFT trainer with micro-batches that are bounded in tokens.

On a CPU it also computes logits at target positions only, and rows can be packed without padding.
The reason is cost. On two cores a batch of 16 rows in one piece holds about 2.4 MB of activations
per token, and the logits of all positions over a vocabulary of 49,152 take a fifth of the forward
pass. Micro-batches bound the activations, and computing only target positions saves most of the
logits. `metrics/train.json` has the rate and the peak memory of each run.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from torch.nn.functional import cross_entropy
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTTrainer

from stages.core.models.generation import batches
from stages.train.examples import IGNORED
from stages.train.trainers.base import ResumableTrainerMixin
from stages.train.trainers.packing import RowNoise, join, pack
from stages.train.trainers.row_attention import PER_ROW

Batch = dict[str, torch.Tensor]
LIKELIHOODS = ("nll", "chunked_nll")  # TRL's names of the plain loss


class TokenBudget(SFTTrainer):
    """An `SFTTrainer` for examples that are already tokenized and padded on the left.

    Args:
        micro_batch_tokens: The maximum number of tokens in one forward and backward pass, including
            padding. A longer row gets a micro-batch of its own.
        others: The arguments of `SFTTrainer`.
    """

    def __init__(self, *args: Any, micro_batch_tokens: int, **others: Any) -> None:
        super().__init__(*args, **others)
        self._micro_batch_tokens = micro_batch_tokens
        self._packs = self.model.config._attn_implementation == PER_ROW
        self._noise = RowNoise(self.args.neftune_noise_alpha) if self._packs else None
        if self._noise and self._noise.alpha:
            # The noise of transformers would take packed rows for one long row.
            self.neftune_noise_alpha = None
            self.model.get_input_embeddings().register_forward_hook(self._noise)

    def training_step(
        self, model: Any, inputs: Batch, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Run the forward and backward pass of one batch in micro-batches.

        The losses of the micro-batches are normalised over the whole batch.
        """
        parts = self._in_step(list(self._micro_batches(inputs)))
        state = self.accelerator.gradient_state
        losses = []
        synchronised = state.sync_gradients
        for i, part in enumerate(parts):
            last = i == len(parts) - 1  # several processes sum their gradients once per batch
            state._set_sync_gradients(synchronised and last)  # tells DeepSpeed when to step
            # FSDP sums gradients in each part, because whole gradients kept for the last part
            # would not fit in memory.
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
        """Compute the mean negative log-likelihood of the target tokens with their weights, if any.

        If the rows have no weights, TRL computes the loss on a GPU. It also computes its other
        losses on every device.
        """
        plain = (
            self.args.loss_type == "nll"
            and self.label_smoother is None
            and not self.aux_loss_enabled
        )
        theirs = inputs["input_ids"].device.type != "cpu" or return_outputs or not plain
        # TRL does not support weights. The schema allows none together with other losses.
        if theirs and "weight" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        total = self._sum_of_losses(model, inputs)
        if num_items_in_batch is None:
            return total / (inputs["labels"] != IGNORED).sum().clamp(min=1)
        # As in `Trainer.compute_loss`, gradients are averaged over processes, while targets are
        # counted over all of them.
        processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return processes * total / torch.as_tensor(num_items_in_batch).clamp(min=1)

    @torch.no_grad()
    def evaluation_loop(
        self, dataloader: Any, *args: Any, metric_key_prefix: str = "eval", **others: Any
    ) -> EvalLoopOutput:
        """Compute the mean loss over all target tokens, also in micro-batches.

        Each process takes its share of the micro-batches.
        """
        model: Any = self.model.eval()
        rows = [dataloader.dataset[i] for i in range(len(dataloader.dataset))]
        parts = self._divide([len(row["input_ids"]) for row in rows])
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        rank = self.args.process_index
        world = self.args.world_size
        # Every process runs the same number of forward passes.
        for i in range(rank, world * -(-len(parts) // world), world):
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
        read: dict[str, Any] = join(inputs) if self._packs else dict(inputs)
        if self._noise:
            self._noise.row_lengths = read["row_lengths"]
        targets = read.pop("labels")[:, 1:]
        weights = read.pop("weight", None)
        columns = (targets != IGNORED).any(0).nonzero().squeeze(-1)
        # Autocast casts the inputs of each matrix product itself. peft would also cast the inputs
        # of adapters to float32 and back.
        cast = torch.is_autocast_enabled(read["input_ids"].device.type)
        with disable_input_dtype_casting(model, active=cast):
            logits = model(**read, use_cache=False, logits_to_keep=columns).logits
        kept = targets[:, columns]
        trained = kept != IGNORED
        if weights is None:
            return cross_entropy(logits[trained].float(), kept[trained], reduction="sum")
        losses = cross_entropy(logits[trained].float(), kept[trained], reduction="none")
        return (losses * weights[:, 1:][:, columns][trained]).sum()

    def _micro_batches(self, inputs: Batch) -> Iterator[Batch]:
        """Split a batch into parts within the token budget, each without needless padding."""
        lengths = inputs["attention_mask"].sum(-1).tolist()
        for indices in self._divide(lengths):
            width = int(max(lengths[i] for i in indices))
            yield {key: value[indices, -width:] for key, value in inputs.items()}

    def _divide(self, lengths: list[int]) -> list[list[int]]:
        limit = self._micro_batch_tokens
        return pack(lengths, limit) if self._packs else list(batches(lengths, limit))

    def _in_step(self, parts: list[Batch]) -> list[Batch]:
        """Split parts until every process has the same number of them.

        This is needed if each forward pass fetches weights from all processes.
        """
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            return parts
        count = torch.tensor([len(parts)], device=self.args.device)
        wanted = int(self.accelerator.gather(count).max())
        # All processes have the same number of rows, so there is always a part to split.
        while len(parts) < wanted:
            part = parts.pop(max(range(len(parts)), key=lambda i: len(parts[i]["input_ids"])))
            half = len(part["input_ids"]) // 2
            parts += [
                {key: value[rows] for key, value in part.items()}
                for rows in (slice(half), slice(half, None))
            ]
        return parts


class AnswersTrainer(ResumableTrainerMixin, TokenBudget):
    """The trainer of supervised fine-tuning."""

    @property
    def evaluates_training_loss(self) -> bool:
        """Whether training has the loss of evaluations, which is the plain log-likelihood.

        TRL's other losses and label smoothing have another scale.
        """
        return self.args.loss_type in LIKELIHOODS and self.label_smoother is None
