"""Training of every architecture of the matrix, from the base model to exports."""

import gc
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks.varlen_stand_in import varlen_attn
from stages.core.config.schema import Config, parse
from stages.core.data.records import PREPARED
from stages.core.errors import UserError
from stages.core.models.base_models import ModelFiles, get_base_model
from stages.core.models.candidates import Candidate
from stages.core.models.loading import TUNED, get_model
from stages.core.planning.model_dimensions import get_model_dimensions
from stages.core.storage.files import read_json, write_jsonl
from stages.core.tracking.tracker import Tracker, track
from stages.register import registry
from stages.train import export, loop
from stages.train.adapter import find_experts
from stages.train.build_trainer import get_trainer
from stages.train.examples import IGNORED, LeftPadding
from stages.train.methods import get_method
from stages.train.monitoring.checkpoints import latest_checkpoint
from stages.train.trainers import varlen_attention
from stages.train.trainers.packing import can_pack
from stages.train.trainers.varlen_attention import suits_varlen
from tests.architectures import EXPORTED, MATRIX, REGISTERED, Architecture
from tests.conftest import TINY, chat, compose_config, entered
from tests.train.registered_models import register, trace_back

STEPS = 3
NO_BALANCE = "+train.args.router_aux_loss_coef=0.0"  # a loss of experts is over all rows
HALF = 2  # after which a training is interrupted
SETTINGS = (
    *TINY,
    "model=hub",
    "model.dtype=float32",
    "train.checkpoint_minutes=0",
    "train.args.logging_steps=2",
    f"train.args.max_steps={STEPS}",
    "train.args.learning_rate=5e-3",
    "train.args.warmup_steps=0",
    "train.args.per_device_train_batch_size=2",
)
ROWS = [chat(f"{'Say ' * (n % 4)}{n}.", f"number {n}") for n in range(10)]
SPLITS = {"train": ROWS[:6], "validation": ROWS[6:8], "test": ROWS[8:]}


@cache
def configure(*overrides: str) -> Config:
    return parse(compose_config(*SETTINGS, "model.source.id=tiny", *overrides))


@dataclass(frozen=True)
class Made:
    """A tiny model of an architecture as a folder, in a workspace with prepared rows."""

    architecture: Architecture
    folder: Path

    def configure(self, *overrides: str) -> Config:
        config = configure(*overrides)
        source = config.model.source.model_copy(update={"id": str(self.folder)})
        return config.model_copy(
            update={"model": config.model.model_copy(update={"source": source})}
        )

    def build(self, checkpoints: Path, *overrides: str) -> tuple[Any, Any]:
        """Return a trainer and its method."""
        config = self.configure("tracking=disabled", *overrides)
        method = get_method(config)
        trainer = get_trainer(
            method,
            SPLITS["train"],
            SPLITS["validation"],
            Tracker(config, None),
            str(checkpoints),
        )
        return trainer, method


def make(architecture: Architecture, tokenizer: ModelFiles, folder: Path) -> Made:
    shutil.copytree(tokenizer.path, folder)
    architecture.build().save_pretrained(folder)
    return Made(architecture, folder)


@pytest.fixture(scope="module")
def prepared_once(tmp_path_factory) -> Iterator[None]:
    """One workspace for all architectures, because each would make a store of MLflow."""
    with entered(tmp_path_factory.mktemp("workspace")):
        for name, records in SPLITS.items():
            write_jsonl(PREPARED / f"{name}.jsonl", records)
        yield


@pytest.fixture(scope="module")
def tokenizer() -> ModelFiles:
    return get_base_model(parse(compose_config(*TINY)).model, seed=42)


@pytest.fixture(scope="module", params=MATRIX, ids=lambda architecture: architecture.name)
def made(request, tmp_path_factory, tokenizer, prepared_once) -> Made:
    gc.freeze()  # each training collects garbage, among all that the libraries have loaded by now
    return make(request.param, tokenizer, tmp_path_factory.mktemp("architecture") / "model")


def test_a_mixture_of_experts_is_known_by_its_configuration(made):
    """Memory and time of such a model are not estimated."""
    model = made.configure().model
    dimensions = get_model_dimensions(model, get_base_model(model, seed=42))
    experts = find_experts(made.architecture.build())
    assert dimensions is None or dimensions.mixture == bool(experts)


def get_batch(trainer: Any, method: Any, rows: int) -> dict[str, torch.Tensor]:
    examples = [trainer.train_dataset[i] for i in range(rows)]
    return LeftPadding(method.tokenizer.pad_token_id)(examples)


def get_gradients(trainer: Any, batch: dict[str, torch.Tensor]) -> tuple[Any, dict[str, Any]]:
    """Return the loss and the gradients of a step."""
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    targets = (batch["labels"] != IGNORED).sum()
    given = batch | {"row": torch.arange(len(batch["labels"]))}
    loss = trainer.training_step(trainer.model, given, targets)
    return loss, {name: p.grad for name, p in trainer.model.named_parameters()}


def read_alone(method: Any, rows: Any) -> tuple[Any, dict[str, Any]]:
    """Return the loss and the gradients of rows that transformers reads one at a time."""
    model = get_model(method.base, "float32").train()
    total = torch.zeros(())
    targets = 0
    for row in rows:
        labels = torch.tensor(row["labels"][1:])
        logits = model(torch.tensor([row["input_ids"]]), use_cache=False).logits[0, :-1]
        total = total + cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        targets += int((labels != IGNORED).sum())
    loss = total / targets
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}


def test_rows_of_a_batch_are_learned_as_if_each_were_alone(made, tmp_path):
    trainer, method = made.build(tmp_path, "train=full", NO_BALANCE)
    assert trainer._packs == can_pack(made.architecture.build())  # as docs/models.md says
    assert_rows_are_learned_alone(trainer, method)


def test_joined_rows_of_a_gpu_are_learned_as_if_each_were_alone(made, tmp_path, monkeypatch):
    """A stand-in takes the place of the kernel, which only a GPU has."""
    monkeypatch.setattr(varlen_attention, "varlen_attn", varlen_attn)
    monkeypatch.setattr(varlen_attention, "can_use_varlen", lambda model, _: suits_varlen(model))
    options = ("train=full", "train.attention=varlen", NO_BALANCE)
    model = made.architecture.build()
    if not can_pack(model, windows=True) or not suits_varlen(model):
        with pytest.raises(UserError, match="varlen is only for"):
            made.build(tmp_path, *options)
        return
    trainer, method = made.build(tmp_path, *options)
    assert trainer._packs
    assert_rows_are_learned_alone(trainer, method)


def assert_rows_are_learned_alone(trainer: Any, method: Any) -> None:
    """Compare the loss and the gradients of a batch with those of its rows one at a time."""
    batch = get_batch(trainer, method, 4)
    lengths = batch["attention_mask"].sum(-1)
    assert len(set(lengths.tolist())) > 2 and int(lengths.sum()) < trainer._micro_batch_tokens
    loss, gradients = get_gradients(trainer, batch)
    expected, alone = read_alone(method, [trainer.train_dataset[i] for i in range(4)])
    assert loss == pytest.approx(float(expected), rel=1e-5)
    assert gradients.keys() == alone.keys()
    for name, gradient in alone.items():
        if gradient is None:
            assert gradients[name] is None
        else:
            largest = float(gradient.abs().max())
            assert torch.allclose(gradients[name], gradient, atol=1e-4 * largest + 1e-7), name


def test_without_its_adapter_the_model_is_the_base_model(made, tmp_path):
    """`train.replay.loss=kl` asks it for the probabilities of the rows that it wrote."""
    trainer, method = made.build(tmp_path, "train=lora")
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    trained = copy_trained(trainer)
    batch = get_batch(trainer, method, 4)
    chosen = torch.tensor([False, True, True, False])
    batch["of_base"] = chosen[:, None].expand(batch["labels"].shape)
    found = trainer._ask_base(batch)
    model = get_model(method.base, "float32")
    expected = []
    for row in (trainer.train_dataset[1], trainer.train_dataset[2]):
        with torch.inference_mode():
            logits = model(torch.tensor([row["input_ids"]]), use_cache=False).logits[0, :-1]
        expected.append(logits[torch.tensor(row["labels"][1:]) != IGNORED])
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-4)
    assert copy_trained(trainer).keys() == trained.keys()


def copy_trained(trainer: Any) -> dict[str, torch.Tensor]:
    named = trainer.model.named_parameters()
    return {name: p.detach().clone() for name, p in named if p.requires_grad}


def learn_resume_and_save(made: Made, folder: Path, option: str) -> dict[str, torch.Tensor]:
    """Train to the end, then again from a checkpoint, and save the second model.

    Returns:
        The trained weights, of which the test has checked that training changed them.
    """
    trainer, method = made.build(folder, f"train={option}")
    before = copy_trained(trainer)
    numbers = loop.tune(trainer, method, folder)
    assert numbers["eval_loss"] < numbers["eval_loss_before_training"]
    weights = copy_trained(trainer)
    assert not [name for name in weights if torch.equal(weights[name], before[name])]
    shutil.rmtree(latest_checkpoint(folder))
    trainer, method = made.build(folder, f"train={option}")
    loop.tune(trainer, method, folder)
    assert trainer.progress.resumed_at == [HALF]
    resumed = copy_trained(trainer)
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)
    shutil.rmtree(TUNED, ignore_errors=True)
    TUNED.mkdir(parents=True)
    export.save(trainer, method, numbers, "key", TUNED, folder / "measured.json")
    return weights


def read_losses() -> dict[str, float]:
    return read_json(TUNED / "training.json")["loss_after_reloading"]


@pytest.fixture(scope="module")
def tracker(prepared_once) -> Iterator[Tracker]:
    """The run to which all models are logged, because each run takes a fifth of a second."""
    with track(configure(), "register") as tracker:
        yield tracker


@pytest.fixture
def no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let models be registered that no stage has evaluated."""
    monkeypatch.setattr(registry, "lineage_tags", trace_back)
    monkeypatch.setattr(registry, "write_origin", lambda *_: None)
    monkeypatch.setattr(Candidate, "read_predictions", lambda _: [[]])


@pytest.mark.parametrize("option", REGISTERED)
def test_a_model_is_learned_resumed_registered_and_exported(
    made, tmp_path, tracker, no_verdict, option
):
    weights = learn_resume_and_save(made, tmp_path / "run", option)
    check_saved(made, weights, option)
    registered = register(made.configure(f"train={option}"), tracker, tmp_path / "logged")
    for kind in EXPORTED:
        folder = tmp_path / kind
        if kind == "adapter" and option == "full":
            with pytest.raises(UserError, match="has no adapter, because all of its weights were"):
                registered.export(kind, folder)
            assert not folder.exists()
        else:
            registered.check_export(kind, folder, made.folder)


def check_saved(made: Made, weights: dict[str, torch.Tensor], option: str) -> None:
    """Check that what was saved has the loss of the trained model."""
    found = read_losses()
    assert found["reloaded"] == pytest.approx(found["trained"], rel=1e-5)
    if option == "full":
        assert read_json(TUNED / "config.json") == read_json(made.folder / "config.json")
    else:
        assert any("experts" in name for name in weights) == made.architecture.experts
        assert found["merged"] == pytest.approx(found["trained"], rel=1e-4)


@pytest.fixture
def prepared_model(request, tmp_path, tokenizer, prepared_once) -> Made:
    """A model by its name in the matrix."""
    architecture = next(one for one in MATRIX if one.name == request.param)
    return make(architecture, tokenizer, tmp_path / "model")


@pytest.mark.parametrize("fuses", [False, True], ids=["plain head", "fused head"])
@pytest.mark.parametrize("prepared_model", ["Granite hybrid", "gpt-oss"], indirect=True)
def test_the_loss_that_balances_experts_counts_once_in_a_step(prepared_model, tmp_path, fuses):
    """However many micro-batches a step has, which depends on the memory."""
    one_row = "train.micro_batch_tokens=16"
    trainer, method = prepared_model.build(tmp_path, "train=full", one_row)
    trainer._fuses = fuses
    assert not trainer.evaluates_training_loss
    coefficient = trainer.router_aux_loss_coef
    batch = get_batch(trainer, method, 3)
    rows = [trainer.train_dataset[i] for i in range(3)]
    loss, _ = get_gradients(trainer, batch)
    expected, _ = read_alone(method, rows)
    model = get_model(method.base, "float32").train()
    balance = [
        len(row["input_ids"])
        * model(torch.tensor([row["input_ids"]]), output_router_logits=True).aux_loss
        for row in rows
    ]
    mean = float(sum(balance) / batch["attention_mask"].sum())
    assert coefficient * mean > 1e-4
    assert float(loss) == pytest.approx(float(expected) + coefficient * mean, rel=1e-5)


@pytest.mark.parametrize(
    "prepared_model", ["Gemma 3 with images", "Gemma 4 with images"], indirect=True
)
def test_an_image_encoder_is_left_alone(prepared_model, tmp_path):
    """It has no experts, and text gives its weights no gradient."""
    encoder = ("vision_tower", "audio_tower", "multi_modal_projector", "embed_vision")
    trainer, _ = prepared_model.build(tmp_path, "train=lora", "train.adapter.lora_dropout=0.1")
    names = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    assert names and not [name for name in names if any(part in name for part in encoder)]
