"""On-policy distillation: the probabilities of a larger model for the model's own answers.

The model answers the training prompts, and a teacher with the same tokens reads these answers. The
loss is the divergence between the probabilities that both give to each next token (Agarwal et al.,
"On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes", 2024). So the
targets of training rows are not learned.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from trl import DistillationConfig, DistillationTrainer

from stages.core.config.train_options import TeacherModel
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.models.generation import add_end_tokens
from stages.core.models.loading import get_model, get_tokenizer
from stages.core.models.teachers import KEY, get_teacher, get_teacher_tokenizer
from stages.train.methods.on_policy import OnPolicy, check_rows
from stages.train.trainers.on_policy import OnPolicyTrainerMixin

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from stages.train.monitoring.training_progress import TrainingProgress

log = logging.getLogger(__name__)


class OnPolicyDistillation(OnPolicy):
    """Distillation from `train.teacher_model`."""

    arguments = DistillationConfig

    @property
    def fixed_arguments(self) -> dict[str, Any]:
        """Leave the choice of the teacher to `train.teacher_model`."""
        names = ("name_or_path", "revision", "init_kwargs")
        return {**super().fixed_arguments, **{f"teacher_model_{name}": None for name in names}}

    @property
    def teacher(self) -> TeacherModel:
        """The teacher, which this method always has."""
        return cast(TeacherModel, self.config.train.teacher_model)

    def get_records(self, records: Sequence[Record], folder: Path) -> Sequence[Record]:
        """Check the teacher's tokens before any weights are loaded, and return the records.

        Raises:
            UserError: The teacher does not exist, or has other tokens than the model.
        """
        tokenizer = get_tokenizer(get_teacher_tokenizer(self.teacher), chats=False)
        _check_tokens(self.teacher.source, self.tokenizer, tokenizer)
        return records

    def make_trainer(
        self, progress: "TrainingProgress", **common: Any
    ) -> "OnPolicyDistillationTrainer":
        """Load the teacher and create TRL's trainer.

        Raises:
            UserError: The teacher cannot be used, or there are too few rows for a batch.
        """
        args = common["args"]
        prompts = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        check_rows(len(common["train_dataset"]), prompts)
        model = common["model"]
        add_end_tokens(model, self.tokenizer)  # TRL ends answers by these settings
        return OnPolicyDistillationTrainer(
            teacher_model=self._get_teacher(model), progress=progress, **common
        )

    def _get_teacher(self, student: "PreTrainedModel") -> "PreTrainedModel":
        """Load the teacher, with as many rows of embeddings as the model that learns from it.

        Raises:
            UserError: It has fewer rows.
        """
        files = get_teacher(self.teacher)
        teacher = get_model(files, self.config.model.dtype)
        _cut_embeddings(self.teacher.source, teacher, _count_rows(student))
        self.metadata["teacher"] = {
            "source": self.teacher.source,
            "revision": files.revision,
            "sha256": files.sha256,
        }
        log.info(
            "The teacher is %s (SHA-256 %s).",
            *(self.teacher.source, (files.sha256 or "unknown")[:12]),
        )
        return teacher


def _check_tokens(
    source: str, student: "PreTrainedTokenizerBase", teacher: "PreTrainedTokenizerBase"
) -> None:
    """Check that two tokenizers give every token the same number.

    Raises:
        UserError: They do not.
    """
    ours = student.get_vocab()
    theirs = teacher.get_vocab()
    differing = [
        token
        for token in sorted(ours.keys() | theirs.keys())
        if ours.get(token) != theirs.get(token)
    ]
    if not differing:
        return
    token = differing[0]
    if token not in theirs:
        example = f"{token!r}, which only `model` has"
    elif token not in ours:
        example = f"{token!r}, which only the teacher has"
    else:
        example = f"{token!r}, which is number {theirs[token]} instead of {ours[token]}"
    raise UserError(
        f"{KEY} {source!r}: its tokens are not those of `model`. The number of differences is "
        f"{len(differing):,}, such as {example}. Choose a model with the same tokenizer, or "
        "train=distill, which learns from texts"
    )


def _cut_embeddings(source: str, teacher: "PreTrainedModel", rows: int) -> None:
    """Cut the last rows of the teacher's embeddings, which belong to no token.

    Many models have more rows than tokens, and larger models of a family may have more of them.

    Args:
        source: The name of the teacher, for messages.
        teacher: The teacher, whose tokens are those of the model that learns.
        rows: The rows of the embeddings of that model.

    Raises:
        UserError: The teacher has fewer rows.
    """
    own = _count_rows(teacher)
    if own < rows:
        raise UserError(
            f"{KEY} {source!r}: its embeddings have {own:,} rows and those of `model` {rows:,}. The "
            "probabilities of both must have the same length; choose another teacher"
        )
    if own > rows:
        teacher.resize_token_embeddings(rows, mean_resizing=False)


def _count_rows(model: "PreTrainedModel") -> int:
    return model.get_input_embeddings().weight.shape[0]


class OnPolicyDistillationTrainer(OnPolicyTrainerMixin, DistillationTrainer):
    """TRL's trainer for prompts that are already rendered."""
