"""The number of tokens in a pass if it is `auto`."""

import pytest
import torch

from stages.train.monitoring.checkpoints import COMPLETE_MARKER
from stages.train.trainers import micro_batches
from stages.train.trainers.micro_batches import choose_micro_batch_tokens
from tests.train.test_train import trainer_of
from tools.memory import MODELS


@pytest.fixture
def choose(config, tmp_path, monkeypatch):
    """A function: the choice for an amount of free memory."""

    def get(free):
        monkeypatch.setattr(micro_batches, "get_free_bytes", lambda: free)
        train = config("train=lora").train
        return choose_micro_batch_tokens(train, MODELS["Qwen2.5-0.5B"], tmp_path / "run")

    return get


def test_a_number_stays_and_auto_is_recorded_with_its_reason(
    config, prepared, tmp_path, monkeypatch
):
    trainer, _, _ = trainer_of(config, prepared, tmp_path, "train.micro_batch_tokens=640")
    assert trainer._micro_batch_tokens == 640
    trainer, _, _ = trainer_of(config, prepared, tmp_path)
    assert trainer._micro_batch_tokens == 768
    assert (tmp_path / "trl" / micro_batches.CHOSEN).exists()


def test_a_resumed_training_has_the_number_of_its_checkpoints(choose, tmp_path):
    first = choose(6.0e9)
    assert 768 < first["value"] < 65_536 and "6 GB" in first["why"]
    smaller = choose(5.5e9)
    assert smaller["value"] < first["value"]  # no checkpoint has another number yet
    checkpoint = tmp_path / "run/checkpoint-5"
    checkpoint.mkdir()
    (checkpoint / COMPLETE_MARKER).touch()
    assert choose(80e9) == smaller


def test_weights_can_be_trained_in_bfloat16_with_an_optimizer_of_8_bits(config, prepared, tmp_path):
    lean = ("train.trained_dtype=bfloat16", "+train.args.optim=adamw_bnb_8bit")
    trainer, *_ = trainer_of(config, prepared, tmp_path, "train=full", *lean)
    assert {p.dtype for p in trainer.model.parameters()} == {torch.bfloat16}
    trainer.args.max_steps = 2
    head = trainer.model.get_output_embeddings().weight
    before = head.clone()
    trainer.train()
    assert not torch.equal(before, head)
    assert type(trainer.optimizer.optimizer).__module__.startswith("bitsandbytes")
