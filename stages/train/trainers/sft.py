"""TRL's SFT trainer with micro-batches that are bounded in tokens.

Rows can be packed without padding, and no pass holds the logits of all positions. The reason is
cost. On two cores a batch of 16 rows in one piece holds about 2.4 MB of activations per token, and
the logits of all positions over a vocabulary of 49,152 take a fifth of the forward pass. For 65,536
tokens and a vocabulary of 151,936 they would take 40 GB in float32. Micro-batches bound the
activations. A CPU computes the logits of the target positions only, and a GPU those of a few
thousand positions at a time, in TRL's fused head. `metrics/train.json` has the rate and the peak
memory of each run.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTTrainer

from stages.core.models.generation import batches
from stages.train.examples import IGNORED
from stages.train.stored_examples import read_numbers
from stages.train.trainers.base import ResumableTrainerMixin
from stages.train.trainers.packing import RowNoise, get_offsets, join, joined_rows, pack
from stages.train.trainers.row_attention import PER_ROW
from stages.train.trainers.target_losses import (
    get_target_logits,
    name_experts,
    sum_at_targets,
    sum_in_chunks,
)
from stages.train.trainers.varlen_attention import VARLEN

Batch = dict[str, torch.Tensor]
REPLAY_COLUMNS = ("weight", "of_base")  # of a batch, and no inputs of a model
LIKELIHOODS = ("nll", "chunked_nll")  # TRL's names of the plain loss


class TokenBudget(SFTTrainer):
    """An `SFTTrainer` for examples that are already tokenized and padded on the left.

    Args:
        micro_batch_tokens: The maximum number of tokens in one forward and backward pass, including
            padding. A longer row gets a micro-batch of its own.
        others: The arguments of `SFTTrainer`.
    """

    router_aux_loss_coef: float

    def __init__(self, *args: Any, micro_batch_tokens: int, **others: Any) -> None:
        super().__init__(*args, **others)
        self._micro_batch_tokens = micro_batch_tokens
        self._attention = self.model.config._attn_implementation
        self._packs = self._attention in (PER_ROW, VARLEN)
        # TRL's fused head reads the weight of a plain head, so it would ignore an adapter on it.
        head = self.accelerator.unwrap_model(self.model).get_output_embeddings()
        self._fuses = self.args.device.type != "cpu" and isinstance(head, torch.nn.Linear)
        config = self.model.config.get_text_config()
        name_experts(config)
        if self.aux_loss_enabled:
            # Evaluation and generation do not need what TRL makes every pass return.
            config.output_router_logits = False
        self._aux_loss_coef = self.router_aux_loss_coef
        self._noise = RowNoise(self.args.neftune_noise_alpha) if self._packs else None
        if self._noise and self._noise.alpha:
            # The noise of transformers would take packed rows for one long row.
            self.neftune_noise_alpha = None
            self.model.get_input_embeddings().register_forward_hook(self._noise)

    def training_step(
        self, model: Any, inputs: Batch, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Run the forward and backward pass of one batch in micro-batches.

        The losses of the micro-batches are normalised over the whole batch. The loss that balances
        experts is the mean of the micro-batches, weighted by their tokens.
        """
        parts = self._in_step(list(self._micro_batches(inputs)))
        whole = inputs["attention_mask"].sum()
        state = self.accelerator.gradient_state
        losses = []
        synchronised = state.sync_gradients
        for i, part in enumerate(parts):
            last = i == len(parts) - 1  # several processes sum their gradients once per batch
            state._set_sync_gradients(synchronised and last)  # tells DeepSpeed when to step
            if self.aux_loss_enabled:
                share = float(part["attention_mask"].sum() / whole)
                self.router_aux_loss_coef = self._aux_loss_coef * share
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

        The loss that balances experts is added if the model has one. TRL computes its other losses.
        It does not support weights, which the schema does not allow together with other losses.
        """
        plain = (
            self.args.loss_type == "nll"
            and self.label_smoother is None
            and self.accelerator.parallelism_config is None
        )
        if (return_outputs or not plain) and "weight" not in inputs:
            read = dict(inputs) if return_outputs else self._read(inputs)
            with self._as_joined("attention_mask" not in read):
                return super().compute_loss(model, read, return_outputs, num_items_in_batch)
        total, balance = self._sum_of_losses(model, inputs)
        if num_items_in_batch is None:
            return total / (inputs["labels"] != IGNORED).sum().clamp(min=1) + balance
        # As in `Trainer.compute_loss`, gradients are averaged over processes, while targets are
        # counted over all of them.
        processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        loss = processes * total / torch.as_tensor(num_items_in_batch).clamp(min=1)
        return loss + balance / self.current_gradient_accumulation_steps

    @torch.no_grad()
    def evaluation_loop(
        self, dataloader: Any, *args: Any, metric_key_prefix: str = "eval", **others: Any
    ) -> EvalLoopOutput:
        """Compute the mean loss over all target tokens, also in micro-batches.

        Each process takes its share of the micro-batches.
        """
        model: Any = self.model.eval()
        # A schedule-free optimizer then puts the averaged weights in place, as in transformers.
        if callable(getattr(self.optimizer, "eval", None)):
            self.optimizer.eval()
        rows = dataloader.dataset
        parts = self._divide(read_numbers(rows, "length").tolist())
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        rank = self.args.process_index
        world = self.args.world_size
        # Every process runs the same number of forward passes.
        for i in range(rank, world * -(-len(parts) // world), world):
            inputs = self._prepare_inputs(
                self.data_collator([rows[k] for k in parts[i % len(parts)]])
            )
            with self.compute_loss_context_manager():
                loss, _ = self._sum_of_losses(model, inputs)
            if i < len(parts):
                sums += torch.stack([loss.double(), (inputs["labels"] != IGNORED).sum().double()])
        total, tokens = self.accelerator.reduce(sums, "sum").tolist()
        metrics = {f"{metric_key_prefix}_loss": total / max(tokens, 1)}
        return EvalLoopOutput(
            predictions=(), label_ids=None, metrics=metrics, num_samples=len(rows)
        )

    def _sum_of_losses(
        self, model: Any, inputs: Batch
    ) -> tuple[torch.Tensor, torch.Tensor | float]:
        """Return the sum of the losses of the targets and the loss that balances experts."""
        # Asked first, because the noise on embeddings takes the lengths of the rows read last.
        base = self._ask_base(inputs) if "of_base" in inputs and model.training else None
        read = self._read(inputs)
        weights = read.pop("weight", None)
        of_base = read.pop("of_base", None)
        balances = self.aux_loss_enabled and model.training
        read |= {"output_router_logits": True} if balances else {}
        # Autocast casts the inputs of each matrix product itself. peft would also cast the inputs
        # of adapters to float32 and back.
        cast = torch.is_autocast_enabled(read["input_ids"].device.type)
        with disable_input_dtype_casting(model, active=cast), self._as_joined(self._packs):
            if self._fuses and base is None:
                total, balance = sum_in_chunks(model, read, weights)
            else:
                total, balance = sum_at_targets(model, read, weights, of_base, base)
        return total, self.router_aux_loss_coef * balance if balances else 0.0

    @torch.no_grad()
    def _ask_base(self, inputs: Batch) -> torch.Tensor | None:
        """Return the base model's logits of the targets of the rows that it wrote, if there are any."""
        rows = inputs["of_base"][:, -1]
        if not rows.any():
            return None
        asked = {key: value[rows] for key, value in inputs.items() if key not in REPLAY_COLUMNS}
        model: Any = self.accelerator.unwrap_model(self.model).eval()
        try:
            with model.disable_adapter(), self._as_joined(self._packs):
                read = self._read(asked)
                trained = read.pop("labels")[:, 1:] != IGNORED
                return get_target_logits(model, read, trained)[0]
        finally:
            model.train()

    def _read(self, inputs: Batch) -> dict[str, Any]:
        """Return the inputs of the model, which are one row if the attention takes joined rows."""
        if not self._packs:
            return dict(inputs)
        joined = join(inputs)
        if self._noise:
            self._noise.row_lengths = joined["row_lengths"]
        if self._attention == VARLEN:
            joined |= get_offsets(joined.pop("row_lengths"), joined["input_ids"].device)
        return joined

    @staticmethod
    def _as_joined(joined: bool) -> AbstractContextManager[None]:
        return joined_rows() if joined else nullcontext()

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

        TRL's other losses and label smoothing have another scale, and the loss that balances experts
        is added in training alone.
        """
        plain = self.args.loss_type in LIKELIHOODS and self.label_smoother is None
        return plain and not self.aux_loss_enabled
