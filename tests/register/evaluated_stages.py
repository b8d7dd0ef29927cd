"""Run the stages before `register` on the tiny model."""

import functools
from pathlib import Path

from stages.baseline.__main__ import main as baseline
from stages.evaluate.__main__ import main as evaluate
from stages.train.__main__ import main as train
from tests.conftest import TINY, compose_config, entered, write_splits
from tests.control_tokenizers import QWEN3

# A thinking model, which does not think in any arm.
THINKING = (
    "model.chat_template=thinking.jinja",
    "+model.chat_template_kwargs.enable_thinking=false",
)
GATE_OPEN = (
    "register=one-task",
    "register.gate.verdict=null",
    "register.gate.min_primary_metric=0.0",
    "register.gate.max_cut_fraction=1.0",  # the random model never ends its answers
    "+register.licenses.chat-jsonl=LicenseRef-own",
    "train.args.num_train_epochs=1",
)
OPEN = (*GATE_OPEN, *THINKING)


@functools.cache
def run_stages(folder):
    """Run the stages into a new folder, once in a session.

    pytest imports a conftest.py twice if another one imports it, but this module only once.
    """
    folder.mkdir()
    with entered(folder):
        write_splits()
        Path("thinking.jinja").write_text(QWEN3)
        for stage in (baseline, train, evaluate):
            stage(compose_config(*TINY, *OPEN))
    return folder
