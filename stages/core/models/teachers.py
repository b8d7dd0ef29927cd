"""The files of a larger model whose probabilities are learned."""

from stages.core.config.model import HubSource
from stages.core.config.train_options import TeacherModel
from stages.core.models.base_models import ModelFiles, get_hub_model

KEY = "train.teacher_model.source"


def get_teacher(own: TeacherModel) -> ModelFiles:
    """Return the files of `train.teacher_model`, which are fetched if they are not cached.

    Raises:
        UserError: The model does not exist, or a file of its folder is damaged.
    """
    source = HubSource(kind="hub", id=own.source, revision=own.revision, trust_remote_code=False)
    return get_hub_model(source, KEY)
