"""The training methods, one module per family. `get_method` imports only the module it needs."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.core.config.schema import Config
    from stages.train.methods.base import Method

CLASSES = {
    "sft": ("sft", "Answers"),
    "teacher-answers": ("teacher_answers", "TeacherAnswers"),
    "dpo": ("preferences", "Dpo"),
    "orpo": ("preferences", "Orpo"),
    "kto": ("preferences", "Kto"),
    "reward-model": ("preferences", "RewardModel"),
    "grpo": ("grpo", "Grpo"),
    "distillation": ("on_policy_distillation", "OnPolicyDistillation"),
    "sequence-classification": ("classification", "SequenceClassification"),
    "multi-label": ("classification", "MultiLabelClassification"),
    "token-classification": ("classification", "TokenClassification"),
}
"""The module and the class of each method, and of two methods with another class.

They are sequence-classification with several labels and sft with a teacher.
"""


def get_method(config: "Config", seed: int | None = None) -> "Method":
    """Create the method named by `train.method`, with its tokenizer loaded.

    Args:
        config: The whole configuration.
        seed: The seed of training. None stands for the global seed.
    """
    train = config.train
    kind = (
        "multi-label"
        if train.label_separator
        else "teacher-answers"
        if train.teacher
        else train.method
    )
    module, name = CLASSES[kind]
    return getattr(import_module(f"{__name__}.{module}"), name)(
        config, config.seed if seed is None else seed
    )
