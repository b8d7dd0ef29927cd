"""Noise on embeddings is as strong in packed rows as in padded ones."""

import pytest
import torch

from stages.train.examples import LeftPadding
from tests.train.test_train import trainer_of

ALPHA = 5.0


@pytest.mark.parametrize("attention", ["per_row", "sdpa"])
def test_noise_is_that_of_each_row_whether_rows_are_packed_or_padded(
    config, prepared, tmp_path, attention
):
    override = (f"+train.args.neftune_noise_alpha={ALPHA}", f"train.attention={attention}")
    trainer, rows, tokenizer = trainer_of(
        config, prepared, tmp_path, *override, "train.micro_batch_tokens=4096"
    )
    same = [rows[0]] * 8
    seen = []
    plain = trainer.model.get_input_embeddings()
    if attention == "sdpa":
        from transformers.integrations.neftune import activate_neftune

        activate_neftune(trainer.model, ALPHA, trainer.accelerator)
    plain.register_forward_hook(
        lambda module, inputs, output: seen.append(output - module.weight[inputs[0]])
    )
    batch = LeftPadding(tokenizer.pad_token_id)(same)
    trainer.model.train()
    trainer._sum_of_losses(trainer.model, dict(batch))
    trainer.model.eval()
    trainer._sum_of_losses(trainer.model, dict(batch))
    noise, quiet = seen
    largest = ALPHA / (same[0]["length"] * plain.embedding_dim) ** 0.5
    assert float(noise.detach().abs().max()) == pytest.approx(largest, rel=0.02)
    assert float(noise.detach().std()) == pytest.approx(largest / 3**0.5, rel=0.05)
    assert torch.equal(quiet, torch.zeros_like(quiet))


def test_longer_rows_get_weaker_noise():
    from stages.train.trainers.packing import RowNoise

    noise = RowNoise(ALPHA)
    noise.row_lengths = [4, 100]
    module = torch.nn.Identity().train()
    found = noise(module, None, torch.zeros(1, 104, 64)).abs()
    assert float(found[:, :4].max()) == pytest.approx(ALPHA / 256**0.5, rel=0.05)
    assert float(found[:, 4:].max()) == pytest.approx(ALPHA / 6400**0.5, rel=0.05)
