"""On-policy distillation: the probabilities of a larger model for the model's own answers.

The model answers the training prompts, and a teacher with the same tokens reads these answers. The
loss is the divergence between the probabilities that both give to each next token (Agarwal et al.,
"On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes", 2024). So the
targets of training rows are not learned.
"""

import logging
from typing import TYPE_CHECKING, Any, cast

from trl import DistillationConfig, DistillationTrainer

from stages.core.config.train_options import TeacherModel
from stages.core.environment.processes import is_sharded
from stages.core.errors import UserError
from stages.core.models.base_models import ModelFiles
from stages.core.models.generation import add_end_tokens
from stages.core.models.loading import get_model, get_tokenizer
from stages.core.models.teachers import KEY, get_teacher
from stages.train.methods.on_policy import OnPolicy, check_rows
from stages.train.trainers.on_policy import OnPolicyTrainerMixin

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from stages.train.monitoring.training_progress import TrainingProgress

log = logging.getLogger(__name__)


class OnPolicyDistillation(OnPolicy):
    """Distillation from `train.teacher_model`."""

    arguments = DistillationConfig

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
        """Load the teacher, which must have the tokens of the model that learns from it.

        Raises:
            UserError: It has other tokens, or the launcher would load a part of it.
        """
        if is_sharded():
            raise UserError(
                f"{KEY}: this launcher shards the models that a process loads, and the teacher "
                "would be loaded in part; choose train/launcher=ddp or single"
            )
        own = cast(TeacherModel, self.config.train.teacher_model)
        files = get_teacher(own)
        _check_tokens(own.source, self.tokenizer, get_tokenizer(files, chats=False))
        teacher = get_model(files, self.config.model.dtype)
        _drop_padding(teacher, student.get_input_embeddings().weight.shape[0])
        self.metadata["teacher"] = _describe(own, files)
        log.info("The teacher is %s (SHA-256 %s).", own.source, (files.sha256 or "unknown")[:12])
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
    if ours == theirs:
        return
    differing = [
        token
        for token in sorted(ours.keys() | theirs.keys())
        if ours.get(token) != theirs.get(token)
    ]
    token = differing[0]
    raise UserError(
        f"{KEY} {source!r}: its tokens are not those of `model`. {len(differing):,} differ, such as "
        f"{token!r}, which is number {theirs.get(token)} instead of {ours.get(token)}. Choose a "
        "larger model of the same family, or train=distill, which learns from texts"
    )


def _drop_padding(teacher: "PreTrainedModel", rows: int) -> None:
    """Drop the last rows of the teacher's embeddings, which belong to no token.

    Many models have more rows than tokens, and larger models of a family may have more of them.

    Args:
        teacher: The teacher.
        rows: The rows of the embeddings of the model that learns.
    """
    if teacher.get_input_embeddings().weight.shape[0] > rows:
        teacher.resize_token_embeddings(rows, mean_resizing=False)


def _describe(own: TeacherModel, files: ModelFiles) -> dict[str, Any]:
    return {"source": own.source, "revision": files.revision, "sha256": files.sha256}


class OnPolicyDistillationTrainer(OnPolicyTrainerMixin, DistillationTrainer):
    """TRL's trainer for prompts that are already rendered."""
