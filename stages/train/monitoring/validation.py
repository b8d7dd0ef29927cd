"""Score answers to validation rows during training.

This uses the same code that answers and scores the test rows.
"""

import random
from collections.abc import Sequence
from typing import Any

from stages.core.config.arms import TUNED_ARM
from stages.core.config.schema import Config
from stages.core.data.predictions import Prediction
from stages.core.data.prompts import build_prompt, encode_prompt
from stages.core.data.records import Record
from stages.core.data.thoughts import read_answer
from stages.core.metrics.metrics import Metrics
from stages.core.models.generation import generate


class Validation:
    """A sample of the validation rows with the prompts of the tuned arm."""

    def __init__(self, config: Config, tokenizer: Any, records: Sequence[Record]) -> None:
        """Draw the sample with `config.seed`.

        Raises:
            UserError: If the metric `train.best.metric` does not exist.
        """
        best = config.train.best
        self._config = config
        self._tokenizer = tokenizer
        self._metrics = Metrics([best.metric], {best.metric: best.options})
        self.name = best.metric
        drawn = random.Random(config.seed).sample(
            range(len(records)), min(best.eval_rows, len(records))
        )
        self._records = [records[i] for i in drawn]
        instruction = config.prompt.tuned_system_prompt
        self._prompts = [
            encode_prompt(tokenizer, build_prompt(record, instruction), record.tools)
            for record in self._records
        ]

    @property
    def lower_is_better(self) -> bool:
        """Return whether a lower value of the metric is better."""
        return self._metrics.lower_is_better(self.name)

    def score(self, trainer: Any) -> dict[str, float]:
        """Return the metric of the current model.

        Each process answers its share of the rows. Processes with a sharded model answer all rows.
        """
        rank = trainer.args.process_index
        world = trainer.args.world_size
        # A forward pass of a sharded model needs all processes, so all of them answer all rows.
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            rank = 0
            world = 1
        mine = range(rank, len(self._records), world)
        answers = self._answer(trainer, mine)
        if world > 1:
            from accelerate.utils import gather_object

            answers = gather_object(answers)
        order = [i for first in range(world) for i in range(first, len(self._records), world)]
        return {
            self.name: self._metrics.score_records(answers, [self._records[i] for i in order])[
                self.name
            ].value
        }

    def _answer(self, trainer: Any, rows: Sequence[int]) -> list[Prediction]:
        model = trainer.accelerator.unwrap_model(trainer.model)
        config = self._config
        if not rows:
            return []
        model.eval()
        with trainer.autocast():
            found = generate(
                model,
                self._tokenizer,
                [self._prompts[i] for i in rows],
                max_new_tokens=config.train.best.max_new_tokens,
                max_batch_tokens=config.model.max_batch_tokens,
                title="validation",
            )
        return [
            Prediction(
                "",
                TUNED_ARM,
                self._read(i, a.text),
                a.prompt_tokens,
                a.completion_tokens,
                a.seconds,
            )
            for i, a in zip(rows, found, strict=True)
        ]

    def _read(self, row: int, text: str) -> str:
        return read_answer(self._tokenizer, self._prompts[row], text, self._records[row].target)
