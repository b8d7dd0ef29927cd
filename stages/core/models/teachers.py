"""The files of a larger model whose probabilities are learned."""

from pathlib import Path

from stages.core.config.model import HubSource
from stages.core.config.train_options import TeacherModel
from stages.core.models.base_models import ModelFiles, get_hub_model, get_hub_tokenizer
from stages.core.models.loading import hash_model

KEY = "train.teacher_model.source"


def get_teacher(own: TeacherModel) -> ModelFiles:
    """Return the files of `train.teacher_model`, which are fetched if they are not cached.

    Raises:
        UserError: The model does not exist, or a file of its folder is damaged.
    """
    return get_hub_model(_get_source(own), KEY)


def get_teacher_tokenizer(own: TeacherModel) -> ModelFiles:
    """Return the files of the teacher's tokenizer without its weights.

    Raises:
        UserError: The model does not exist, a file of its folder is damaged, or it writes no text.
    """
    return get_hub_tokenizer(_get_source(own), KEY)


def identify_teacher(own: TeacherModel) -> str | None:
    """Return the hash of the files in the teacher's folder, or its commit on the hub.

    Raises:
        UserError: The model does not exist, a file of its folder is damaged, or it writes no text.
    """
    revision = get_teacher_tokenizer(own).revision
    folder = Path(own.source)
    return hash_model(folder) if folder.is_dir() else revision


def _get_source(own: TeacherModel) -> HubSource:
    return HubSource(kind="hub", id=own.source, revision=own.revision, trust_remote_code=False)
