"""TRL's trainer, with micro-batches bounded in tokens and, on a CPU, logits for target positions only.

Why: on two cores a batch of 16 rows in one piece holds some 2.4 MB of activations a token, and logits of all positions
over a vocabulary of 49,152 are a fifth of the forward pass. Both are bounded here; `metrics/train.json` has the rate
and the peak memory of each run.
"""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy
from trl import SFTTrainer

from stages.core.generation import batches
from stages.train.examples import IGNORED
from stages.train.watch import Watch

if TYPE_CHECKING:
    from torch.utils.data import Dataset

Batch = dict[str, torch.Tensor]


class TokenBudgetTrainer(SFTTrainer):
    """An `SFTTrainer` for examples that are tokenized already and padded on the left.

    Args:
        micro_batch_tokens: padded tokens in one forward and backward pass; a longer row goes alone.
        ids: of the training rows.
        others: as for `SFTTrainer`.
    """

    control: Any

    def __init__(self, *args: Any, micro_batch_tokens: int, ids: Sequence[str], **others: Any) -> None:
        super().__init__(*args, **others)
        self._micro_batch_tokens, self._watch = micro_batch_tokens, Watch(ids)
        self.tokens_trained = 0
        self.evaluation_seconds = 0.0

    def training_step(self, model: Any, inputs: Batch, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of one batch in micro-batches: their losses are normalised over the whole batch.

        Raises:
            UserError: the loss is no number, or training diverges.
        """
        rows = inputs.pop("row").tolist()
        self.tokens_trained += int(inputs["attention_mask"].sum())
        losses = [
            super(TokenBudgetTrainer, self).training_step(model, micro_batch, num_items_in_batch)
            for micro_batch in self._micro_batches(inputs)
        ]
        total = torch.stack(losses).sum()
        whole = float(total) * self.current_gradient_accumulation_steps  # each batch has its share of the step's loss
        rate = self.lr_scheduler.get_last_lr()[0] if self.lr_scheduler else self.args.learning_rate
        self._watch.look(whole, self.state.global_step + 1, rate, rows)
        return total

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean negative log-likelihood of the target tokens. TRL's own on a GPU and for its other losses."""
        plain = self.args.loss_type == "nll" and self.label_smoother is None and not self.aux_loss_enabled
        if inputs["input_ids"].device.type != "cpu" or return_outputs or not plain:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        total = self._sum_of_losses(model, inputs)
        tokens = (inputs["labels"] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return total / torch.as_tensor(tokens).clamp(min=1)

    @torch.inference_mode()
    def evaluate(
        self, eval_dataset: "Dataset | None" = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The mean over all target tokens of the validation rows, in micro-batches too."""
        started = time.perf_counter()
        model: Any = self.model.eval()
        dataset: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        rows = [dataset[i] for i in range(len(dataset))]
        total, tokens = 0.0, 0
        for indices in batches([len(row["input_ids"]) for row in rows], self._micro_batch_tokens):
            inputs = self._prepare_inputs(self.data_collator([rows[i] for i in indices]))
            total += float(self._sum_of_losses(model, inputs))
            tokens += int((inputs["labels"] != IGNORED).sum())
        metrics = {f"{metric_key_prefix}_loss": total / max(tokens, 1)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.evaluation_seconds += time.perf_counter() - started
        return metrics

    def _sum_of_losses(self, model: Any, inputs: Batch) -> torch.Tensor:
        targets = inputs["labels"][:, 1:]
        columns = (targets != IGNORED).any(0).nonzero().squeeze(-1)
        logits = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            position_ids=inputs["position_ids"],
            use_cache=False,
            logits_to_keep=columns,
        ).logits
        kept = targets[:, columns]
        trained = kept != IGNORED
        return cross_entropy(logits[trained].float(), kept[trained], reduction="sum")

    def _micro_batches(self, inputs: Batch) -> Iterator[Batch]:
        """The rows of a batch sorted by length, in parts of at most the budget, each without needless padding."""
        lengths = inputs["attention_mask"].sum(-1).tolist()
        for indices in batches(lengths, self._micro_batch_tokens):
            width = int(max(lengths[i] for i in indices))
            yield {key: value[indices, -width:] for key, value in inputs.items()}
