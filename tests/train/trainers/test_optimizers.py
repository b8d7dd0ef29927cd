"""LoRA+ and Muon: which weight learns at which rate, and that they resume and refuse."""

import pytest
import torch

from stages.core.errors import UserError
from stages.core.tracking.tracker import Tracker
from stages.train.__main__ import main
from stages.train.build_trainer import get_trainer
from stages.train.methods import get_method
from stages.train.trainers.optimizers import JoinedOptimizer
from tests.conftest import TINY, chat, compose_config
from tests.train.monitoring.test_resume import Killed, read, resumed, same, stop_at
from tests.train.test_every_option import FAST, RECORDS, prepare

ROWS = [chat(f"Say {n}.", f"number {n}") for n in range(8)]
MUON = "train/optimizer=muon"
ONE_EPOCH = "train.args.num_train_epochs=1"


def trainer_of(config, tmp_path, *overrides):
    checked = config(*FAST, *overrides)
    return get_trainer(
        get_method(checked), ROWS, ROWS[:2], Tracker(checked, None), str(tmp_path / "checkpoints")
    )


def list_groups(trainer):
    """Return the name, the learning rate and the weight decay of each trained weight."""
    names = {id(p): name for name, p in trainer.model.named_parameters() if p.requires_grad}
    groups = trainer.create_optimizer().param_groups
    found = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in groups
        for p in group["params"]
    }
    assert set(found) == set(names.values()) and sum(len(g["params"]) for g in groups) == len(names)
    return found


def test_loraplus_trains_b_faster_than_a(config, tmp_path):
    given = (
        "train/optimizer=loraplus",
        "train.optimizer.lr_ratio=8",
        "train.args.weight_decay=0.1",
    )
    trainer = trainer_of(config, tmp_path, *given, ONE_EPOCH)
    found = list_groups(trainer)
    rates = {name.split(".")[-3]: values for name, values in found.items()}
    assert rates == {"lora_A": (1e-2, 0.1), "lora_B": (8e-2, 0.1)}
    trainer.train()  # one step: a first step of Adam moves each weight by its rate, A by less
    b = [p for name, p in trainer.model.named_parameters() if "lora_B" in name]
    assert max(float(p.detach().abs().max()) for p in b) == pytest.approx(8e-2, rel=1e-2)


def test_muon_updates_the_matrices_of_hidden_layers_alone(config, tmp_path):
    trainer = trainer_of(config, tmp_path, "train=full", MUON, "train.args.weight_decay=0.1")
    found = list_groups(trainer)
    muon, others = trainer.optimizer.parts
    assert (type(muon), type(others)) == (torch.optim.Muon, torch.optim.AdamW)
    parameters = dict(trainer.model.named_parameters())
    matrices = {name for name in parameters if name.endswith("_proj.weight")}
    assert {id(p) for p in muon.param_groups[0]["params"]} == {
        id(parameters[name]) for name in matrices
    }
    assert {parameters[name].ndim for name in matrices} == {2}
    assert {name: values for name, values in found.items() if name not in matrices} == {
        name: (1e-2, 0.0 if "norm" in name else 0.1) for name in parameters.keys() - matrices
    }
    assert "lm_head.weight" in parameters and "model.embed_tokens.weight" in parameters


@pytest.mark.parametrize("method", [(), ("train=dora",)])
def test_muon_updates_the_matrices_of_an_adapter(config, tmp_path, method):
    trainer = trainer_of(config, tmp_path, *method, MUON)
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    trainer.create_optimizer()
    parts = [
        {names[id(p)].split(".")[-3] for group in part.param_groups for p in group["params"]}
        for part in trainer.optimizer.parts
    ]
    assert parts[0] == {"lora_A", "lora_B"}
    assert parts[1:] == ([{"lora_magnitude_vector"}] if method else [])


def test_an_update_of_muon_is_orthogonal(config, tmp_path):
    """Its singular values are alike. AdamW's largest one is 28 times the median here."""
    trainer = trainer_of(config, tmp_path, "train=full", MUON, ONE_EPOCH, "model.dtype=float32")
    name = "model.layers.0.self_attn.o_proj.weight"
    before = trainer.model.get_parameter(name).detach().clone()
    trainer.train()
    sizes = torch.linalg.svdvals(trainer.model.get_parameter(name).detach() - before)
    assert float(sizes.max() / sizes.median()) < 2


def test_a_schedule_reaches_all_parts_of_a_joined_optimizer():
    weights = [torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2)]
    parts = [torch.optim.Muon(weights[:1], lr=1.0), torch.optim.AdamW(weights[1:], lr=1.0)]
    joined = JoinedOptimizer(parts)
    joined.load_state_dict(joined.state_dict())  # which gives each part new groups
    schedule = torch.optim.lr_scheduler.LambdaLR(joined, lambda step: 0.5**step)
    for weight in weights:
        weight.grad = torch.eye(2)
    joined.step()
    schedule.step()
    assert [part.param_groups[0]["lr"] for part in parts] == [0.5, 0.5]
    joined.zero_grad()
    assert all(weight.grad is None for weight in weights)


def test_a_killed_run_ends_with_the_very_weights(workspace, monkeypatch):
    prepare(RECORDS["chat"])
    more = ("train.args.logging_steps=1", "train.checkpoint_minutes=0", MUON)
    overrides = (*TINY, *FAST, ONE_EPOCH, *more)
    main(compose_config(*overrides))
    whole = read()
    (workspace / "models/tuned/training.json").unlink()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, 2)
        main(compose_config(*overrides))
    main(compose_config(*overrides))
    same(whole, read())
    assert resumed() == [2]


def test_a_schedule_free_optimizer_is_measured_with_its_averaged_weights(config, tmp_path):
    class Free(torch.optim.SGD):
        def train(self):
            called.append("train")

        def eval(self):
            called.append("eval")

    called = []
    trainer = trainer_of(config, tmp_path, ONE_EPOCH)
    trainer.optimizer = Free([p for p in trainer.model.parameters() if p.requires_grad], lr=1e-3)
    trainer.train()
    assert called[-1] == "eval" and "train" in called


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["+train.args.optim=galore_adamw"], "optim=galore_adamw needs a library .*galore"),
        (["+train.args.optim=schedule_free_adamw"], "schedule_free_adamw needs a library"),
        (["+train.args.optim=adalomo"], "adalomo updates weights during the backward pass"),
        ([MUON, "+train.optimizer.args.x=1"], "train.optimizer cannot be used: .*'x'"),
        (["+train.args.optim=nonsense"], "train.args: trl.SFTConfig rejects .*nonsense"),
    ],
)
def test_mistakes_are_named(config, tmp_path, overrides, said):
    with pytest.raises(UserError, match=said):
        trainer_of(config, tmp_path, *overrides).create_optimizer()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train=full", "train/optimizer=loraplus"], "train.optimizer: LoRA\\+ needs an adapter"),
        ([MUON, "+train.optimizer.args.lr=1"], "train.optimizer.args: Muon takes lr and weight"),
        (["train/optimizer=loraplus", "train.optimizer.lr_ratio=0.5"], "optimizer.lr_ratio"),
    ],
)
def test_settings_that_cannot_be_are_refused(config, overrides, said):
    with pytest.raises(UserError, match=said):
        config(*overrides)
