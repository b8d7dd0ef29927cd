"""Replay rows that keep the probabilities of the base model (train.replay.loss=kl)."""

import copy

import pytest
import torch

from stages.core.config.schema import parse
from stages.core.errors import UserError
from stages.core.tracking.tracker import Tracker
from stages.train import replay
from stages.train.build_trainer import get_trainer
from stages.train.examples import IGNORED
from stages.train.methods import get_method
from tests.conftest import TINY, compose_config
from tests.train.test_replay import chats

REPLAY = ("train.replay.fraction=0.25", "train.replay.rows=8")
COLUMNS = ("input_ids", "labels", "weight", "of_base")


@pytest.fixture
def trainer_of(talker, prepared, workspace):
    def make(*overrides):
        method = get_method(parse(compose_config(*TINY, *talker, *REPLAY, *overrides)))
        tracker = Tracker(method.config, None)
        folder = str(workspace / "trl")
        return get_trainer(method, prepared["train"], prepared["validation"], tracker, folder)

    return make


def get_losses(trainer, rows):
    """Compute the mean loss of each row of a batch by a plain forward pass, one row at a time."""
    model = trainer.model
    found = []
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        targets = torch.tensor(row["labels"][1:])
        own = model(ids).logits[0, :-1][targets != IGNORED].float().log_softmax(-1)
        if row["of_base"]:
            with torch.no_grad(), model.disable_adapter():
                base = model(ids).logits[0, :-1][targets != IGNORED].float().log_softmax(-1)
            found.append((base.exp() * (base - own)).sum())
        else:
            kept = targets[targets != IGNORED]
            found.append(-own.gather(-1, kept[:, None]).sum())
    return torch.stack(found)


@pytest.mark.parametrize("attention", ["sdpa", "per_row"])
def test_the_loss_is_the_divergence_from_the_base_model(trainer_of, attention):
    trainer = trainer_of(f"train.attention={attention}", "train.micro_batch_tokens=150")
    rows = [trainer.train_dataset[i] for i in (0, 1, 24, 25, 26)]
    assert [row["of_base"] for row in rows] == [False, False, True, True, True]
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    before = get_losses(trainer, rows)
    assert before[2:].abs().max() < 1e-5 < before[:2].min()  # an adapter begins with no change
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(0)) * 0.05)
    weights = torch.tensor([row["weight"] for row in rows])
    count = sum(target != IGNORED for row in rows for target in row["labels"][1:])
    expected = (get_losses(trainer, rows) * weights).sum() / count
    assert get_losses(trainer, rows)[2:].min() > 1e-3
    gradients = torch.autograd.grad(expected, trained)
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    batch = trainer.data_collator._collate([{key: row[key] for key in COLUMNS} for row in rows])
    batch["row"] = torch.arange(len(rows))
    loss = trainer.training_step(trainer.model, batch, torch.tensor(count))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert trainer.model.training and [p for p in trainer.model.parameters() if p.requires_grad]
    for parameter, gradient in zip(trained, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


def test_the_base_model_is_still_frozen_after_training(trainer_of):
    trainer = trainer_of("train.args.max_steps=3", "train.args.eval_strategy=no")
    names = {name for name, p in trainer.model.named_parameters() if p.requires_grad}
    base = copy.deepcopy(
        {name: p for name, p in trainer.model.named_parameters() if name not in names}
    )
    trainer.train()
    after = dict(trainer.model.named_parameters())
    assert {name for name, p in after.items() if p.requires_grad} == names
    assert all(torch.equal(after[name], p) for name, p in base.items())


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train=full", "train.replay.loss=kl"], "this training has no adapter"),
        (["+train.adapter.init_lora_weights=pissa"], "moves weights of the base model"),
        (["+train.adapter.bias=all"], "trains biases of the base model"),
    ],
)
def test_without_the_base_model_there_is_no_divergence(overrides, said):
    with pytest.raises(UserError, match=rf"train\.replay\.loss: kl compares .*{said}"):
        parse(compose_config(*TINY, *REPLAY, *overrides))
    parse(compose_config(*TINY, *REPLAY, *overrides, "train.replay.loss=nll"))
    parse(compose_config(*TINY, *REPLAY, *overrides, "train.replay.source=chats.jsonl"))


def test_answers_of_a_file_are_learned(talker, prepared, workspace):
    turns = [[("user", f"Say {n}!"), ("assistant", str(n))] for n in range(4)]
    chats(workspace / "general.jsonl", *turns)
    weights = "+train.replay.weights={general: 1, self: 1}"
    more = ("train.replay.source=general.jsonl", weights)
    method = get_method(parse(compose_config(*TINY, *talker, *REPLAY, *more)))
    examples = method.get_examples(prepared["train"])
    rows, ids = replay.mix_replay(method, examples, prepared["train"], workspace)
    found = {(ids[row["row"]].startswith("replay-general"), row["of_base"]) for row in rows}
    assert found == {(False, False), (False, True), (True, False)}
    assert not any(row["of_base"] for row in rows.select(range(24)))
