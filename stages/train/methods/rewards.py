"""The rewards of method grpo: the scores of a metric and those of a trained reward model."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stages.core.config.arms import TUNED_ARM
from stages.core.config.train_options import MetricScore, RewardModel
from stages.core.data.predictions import Prediction
from stages.core.data.prompts import encode_segments
from stages.core.data.records import Record
from stages.core.data.thoughts import decode_answer, drop_thought
from stages.core.errors import UserError
from stages.core.metrics.metrics import Metrics
from stages.core.models.base_models import ModelFiles
from stages.core.models.generation import batches
from stages.core.models.loading import get_tokenizer, get_tuned_model, hash_model
from stages.core.storage.files import read_json
from stages.train.methods.base import Method
from stages.train.methods.judged_answers import get_answer, get_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Reward = Callable[..., list[float]]
"""A reward function as TRL calls it."""


def get_rewards(method: Method) -> list[Reward]:
    """Create the rewards of `train.grpo_rewards`, and record them in the method's metadata.

    Raises:
        UserError: A metric does not exist, or a folder has no reward model for this run.
    """
    found: list[Reward] = []
    method.metadata["rewards"] = {}
    for name, own in method.config.train.grpo_rewards.items():
        facts: dict[str, Any] = {"weight": own.weight}
        if isinstance(own, MetricScore):
            found.append(MetricReward(name, own.metric, own.options))
            facts["metric"] = own.metric
        else:
            found.append(ModelReward(name, own, method))
            facts |= {"folder": own.folder, "sha256": hash_model(Path(own.folder))}
        method.metadata["rewards"][name] = facts
    return [_of_answers(reward, method.tokenizer) for reward in found]


def _of_answers(reward: Reward, tokenizer: "PreTrainedTokenizerBase") -> Reward:
    """Give a reward the answers as the arms are scored, instead of TRL's texts of all tokens."""

    @wraps(reward, assigned=("__name__",), updated=())
    def rewarded(completion_ids: Sequence[list[int]], **others: Any) -> list[float]:
        others["completions"] = [decode_answer(tokenizer, ids) for ids in completion_ids]
        return reward(completion_ids=completion_ids, **others)

    return rewarded


class MetricReward:
    """The reward of each answer, which is its score under a metric.

    The score is negated if lower values of the metric are better.
    """

    def __init__(self, name: str, metric: str, options: dict[str, Any]) -> None:
        """Load the metric.

        Raises:
            UserError: The metric does not exist.
        """
        self.__name__ = name  # for TRL's logs
        self._metric = metric
        try:
            self._metrics = Metrics([metric], {metric: options})
        except UserError as error:
            raise UserError(f"train.grpo_rewards.{name}: {error}") from None
        self._sign = -1.0 if self._metrics.lower_is_better(metric) else 1.0

    def __call__(
        self,
        completions: Sequence[str],
        completion_ids: Sequence[list[int]],
        record: Sequence[str],
        prompts: Sequence[str],
        **_: Any,
    ) -> list[float]:
        """Compute the reward of each answer, without the thought before it.

        Raises:
            UserError: The metric rejects its options.
        """
        records = [Record.load(line.encode()) for line in record]
        answers = [
            Prediction(r.id, TUNED_ARM, drop_thought(prompt, text, r.target), 0, len(ids), 0.0)
            for r, prompt, text, ids in zip(
                records, prompts, completions, completion_ids, strict=True
            )
        ]
        try:
            scores = self._metrics.score_records(answers, records)[self._metric]
        except UserError as error:
            raise UserError(f"train.grpo_rewards.{self.__name__}: {error}") from None
        return [self._sign * float(value) for value in scores.values]


class ModelReward:
    """The reward of each answer, which is the score of a reward model.

    The model reads the whole chat as method reward-model trained it: rendered with its own chat
    template, with the system prompt of this run and with the end of the answer's turn.
    """

    def __init__(self, name: str, own: RewardModel, method: Method) -> None:
        """Load the model in float32.

        Raises:
            UserError: The folder has no model of method reward-model, or its adapter belongs to
                another base model than that of this run.
        """
        self.__name__ = name  # for TRL's logs
        folder = Path(own.folder)
        check_reward_model(f"train.grpo_rewards.{name}.folder", folder, method.base)
        self._config = method.config
        self._tokenizer = get_tokenizer(ModelFiles(str(folder), None, None))
        self._tokenizer.padding_side = "right"  # as in training
        kind = "AutoModelForSequenceClassification"
        self._model = get_tuned_model(method.base, "float32", folder, kind)

    def __call__(self, completions: Sequence[str], record: Sequence[str], **_: Any) -> list[float]:
        """Compute the score of each answer."""
        instruction = self._config.prompt.tuned_system_prompt
        chats = []
        for text, line in zip(completions, record, strict=True):
            row = Record.load(line.encode())
            answer = {"role": "assistant", "content": text}
            prompt = get_prompt(self._tokenizer, row, instruction)
            chats.append([prompt, get_answer(self._tokenizer, row, answer, instruction)])
        ids = [example.ids for example in encode_segments(self._tokenizer, chats)]
        scores = [0.0] * len(ids)
        for rows in batches([len(row) for row in ids], self._config.model.max_batch_tokens):
            inputs = self._tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt")
            with torch.inference_mode():
                found = self._model(**inputs.to(self._model.device)).logits[:, 0].tolist()
            for i, score in zip(rows, found, strict=True):
                scores[i] = score
        return scores


def check_reward_model(key: str, folder: Path, base: ModelFiles) -> None:
    """Check that a folder has a reward model that this run can use.

    Args:
        key: The configuration key of the folder, for messages.
        folder: The folder.
        base: The base model of this run, on which an adapter is put.

    Raises:
        UserError: It has none.
    """
    facts = folder / "training.json"
    training = read_json(facts) if facts.is_file() else {}
    if training.get("method") != "reward-model":
        raise UserError(
            f"{key}: {folder} has no model of train=reward-model. Train one with `dvc exp run -S "
            "train=reward-model train`, and copy models/tuned to this folder"
        )
    own = training["base_model"]
    adapter = (folder / "adapter_config.json").exists()
    if adapter and (own["sha256"], own["revision"]) != (base.sha256, base.revision):
        raise UserError(
            f"{key}: {folder} is an adapter of {own['name']}, which is not the base model of this "
            "run. Train it on this model, or with train.adapter=null, which stores whole weights"
        )
