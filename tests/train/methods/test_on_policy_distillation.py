"""A model learns what a larger one thinks of its own answers."""

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from stages.core.errors import UserError
from stages.core.models.loading import TUNED
from stages.core.models.teachers import get_teacher
from stages.core.storage.files import read_json, write_json
from stages.core.tracking.tracker import Tracker
from stages.train.__main__ import main
from stages.train.build_trainer import get_trainer
from stages.train.methods import get_method
from stages.train.monitoring.checkpoints import training_fingerprint
from stages.train.reload_check import _release as release
from tests.conftest import TINY, chat, compose_config
from tests.train.methods.test_grpo import check_kills
from tests.train.test_every_option import DISTILL, FAST, RECORDS, prepare, save_teacher

ROWS = [chat(f"Say {'very ' * (n % 5)}{n}.", f"number {n}", "Answer.") for n in range(24)]
OPTION = (*FAST, "train=distill-on-policy", *DISTILL)


@pytest.fixture
def folder(workspace: Path) -> Path:
    """The folder of the teacher, in a workspace."""
    prepare(RECORDS["chat"])
    return save_teacher()


@pytest.fixture
def trainer_of(config, workspace, folder):
    def make(*overrides: str):
        checked = config(*OPTION, *overrides)
        method = get_method(checked)
        return get_trainer(
            method, ROWS, ROWS[:6], Tracker(checked, None), str(workspace / "checkpoints")
        )

    return make


def teach(folder: Path, rows: int) -> None:
    """Give the teacher embeddings of another number of rows, and the same weights in the first ones."""
    model = LlamaForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(rows, mean_resizing=False)
    model.save_pretrained(folder)


def count_rows(folder: Path) -> int:
    return read_json(folder / "config.json")["vocab_size"]


def mix(ours, theirs, beta: float):
    """Compute the generalized Jensen-Shannon divergence (Agarwal et al., 2024, equation 1)."""

    def divergence(first, second):
        return (first.exp() * (first - second)).sum(-1)

    if beta in (0.0, 1.0):
        return divergence(ours, theirs) if beta else divergence(theirs, ours)
    mixed = (beta * theirs.exp() + (1 - beta) * ours.exp()).log()
    return beta * divergence(theirs, mixed) + (1 - beta) * divergence(ours, mixed)


@pytest.mark.parametrize(
    ("beta", "temperature", "option"),
    [(0.0, 1.0, ()), (1.0, 1.0, ()), (0.3, 2.0, ()), (1.0, 1.0, ("train.adapter=null",))],
)
def test_the_loss_is_the_divergence_from_the_teacher(trainer_of, folder, beta, temperature, option):
    trainer = trainer_of(
        f"train.args.beta={beta}",
        f"train.args.temperature={temperature}",
        "train.args.gradient_accumulation_steps=2",
        "train.args.per_device_train_batch_size=2",
        *option,
    )
    trainer.model.train()
    torch.manual_seed(3)
    rows = [trainer.train_dataset[row] for row in range(4)]
    batches = []
    for step in range(2):  # of one optimizer step
        trainer._step = step
        batches.append(trainer._prepare_inputs(rows))
    teacher = LlamaForCausalLM.from_pretrained(folder)
    learned = sum(int(batch["completion_mask"].sum()) for batch in batches)

    def log_probabilities(model, batch):
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        logits = model(input_ids=ids, attention_mask=mask).logits
        answer = batch["completion_ids"].shape[1]
        return (logits[:, -answer - 1 : -1] / temperature).log_softmax(-1)

    for batch in batches:
        with torch.no_grad():
            found = trainer.compute_loss(trainer.model, batch)
            ours = log_probabilities(trainer.model, batch)
            theirs = log_probabilities(teacher, batch)
        mask = batch["completion_mask"].bool()
        wanted = mix(ours, theirs, beta)[mask].sum() / learned
        assert 0 < float(found) == pytest.approx(float(wanted), rel=1e-3)


def test_the_divergence_falls_and_targets_do_not_matter(trainer_of, config, workspace):
    trainer = trainer_of("train.args.num_train_epochs=4")
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    assert after < 0.7 * before
    other = [chat(f"Say {'very ' * (n % 5)}{n}.", "nothing", "Answer.") for n in range(24)]
    checked = config(*OPTION, "train.args.num_train_epochs=4")
    again = get_trainer(
        *(get_method(checked), other, other[:6], Tracker(checked, None)), str(workspace / "other")
    )
    again.train()
    assert again.evaluate()["eval_loss"] == after


def test_it_learns_in_bfloat16(folder):
    main(compose_config(*TINY, *OPTION, "model.dtype=bfloat16"))
    numbers = json.loads(Path("metrics/train.json").read_text())
    assert numbers["eval_loss"] < numbers["eval_loss_before_training"]


def test_evaluation_does_not_change_training(trainer_of):
    trainer = trainer_of()
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    assert trainer.evaluate()["eval_loss"] == trainer.evaluate()["eval_loss"]
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_killed_run_ends_with_the_very_weights_and_numbers(folder, monkeypatch):
    more = (
        "train.args.logging_steps=1",
        "train.checkpoint_minutes=0",
        "train.args.gradient_accumulation_steps=2",
        "train.args.per_device_train_batch_size=4",
    )
    # In the first epoch of three steps, and in the second.
    check_kills(monkeypatch, (*TINY, *OPTION, *more), (2, 5))


def test_the_teacher_is_recorded_and_another_one_trains_again(folder, config):
    checked = config(*OPTION)
    method = get_method(checked)
    key = training_fingerprint(checked, method.base, 42)
    main(compose_config(*TINY, *OPTION))
    facts = json.loads((TUNED / "training.json").read_text())
    files = get_teacher(checked.train.teacher_model)
    assert facts["teacher"] == {"source": "teacher", "revision": None, "sha256": files.sha256}
    assert facts["method"] == "distillation" and facts["key"] == key
    settings = read_json(folder / "config.json")
    write_json(folder / "config.json", settings | {"rms_norm_eps": 0.1})
    assert training_fingerprint(checked, method.base, 42) != key
    write_json(folder / "config.json", settings)
    save_teacher(seed=8)
    assert training_fingerprint(checked, method.base, 42) != key


def test_rows_of_the_teacher_that_belong_to_no_token_are_dropped(trainer_of, folder):
    plain = trainer_of().evaluate()["eval_loss"]
    teach(folder, count_rows(folder) + 3)
    assert trainer_of().evaluate()["eval_loss"] == pytest.approx(plain, rel=1e-5)


def swap(vocabulary: dict[str, int], first: str, second: str) -> None:
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def rename(vocabulary: dict[str, int], first: str, second: str) -> None:
    vocabulary["new"] = vocabulary.pop(first)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swap, r"differences is 2, such as .*, which is number \d+ instead of \d+"),
        (rename, r"differences is 2, such as .*, which only (the teacher|`model`) has"),
    ],
)
def test_a_teacher_with_other_tokens_is_refused(trainer_of, folder, monkeypatch, change, said):
    file = folder / "tokenizer.json"
    content = read_json(file)
    vocabulary = content["model"]["vocab"]
    change(vocabulary, *sorted(vocabulary, key=vocabulary.get)[5:7])
    write_json(file, content)
    monkeypatch.setattr("stages.train.methods.base.get_model", None)  # it is refused before
    with pytest.raises(UserError, match=rf"train\.teacher_model\.source 'teacher': .*{said}"):
        trainer_of()


def test_a_teacher_with_fewer_rows_is_refused(trainer_of, folder):
    teach(folder, count_rows(folder) - 3)
    with pytest.raises(UserError, match=r"'teacher': its embeddings have \d+ rows and those of"):
        trainer_of()


def test_a_teacher_with_code_of_its_own_is_refused(trainer_of, folder):
    settings = read_json(folder / "config.json")
    more = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    write_json(folder / "config.json", settings | more)
    (folder / "own.py").write_text("raise RuntimeError")
    with pytest.raises(UserError, match=r"not executed\. Choose another model\.$"):
        trainer_of()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["train.teacher_model.source=nowhere/none"],
            r"train\.teacher_model\.source 'nowhere/none'",
        ),
        (["train.args.per_device_train_batch_size=32"], r"24 training row\(s\), but .* 32 prompts"),
        (["model.max_length=64"], r"training row\(s\) are longer than model.max_length=64"),
        (["+train.args.beat=1"], r"trl\.DistillationConfig rejects .*beat"),
        (["+train.args.teacher_model_revision=x"], r"teacher_model_revision: Tuneproof sets this"),
        (["+train.args.chat_template_kwargs={x: 1}"], r"chat_template_kwargs: Tuneproof sets this"),
    ],
)
def test_mistakes_are_named(trainer_of, monkeypatch, overrides, said):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=said):
        trainer_of(*overrides)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train=distill-on-policy"], "train.teacher_model.source"),
        (
            ["train=grpo", "+train.teacher_model={source: a, revision: null}"],
            "no other method does",
        ),
        (["train=distill-on-policy", "train.teacher_model=null"], "choose train=distill-on-policy"),
        (
            ["train=distill-on-policy", "train.teacher_model.source=models/tuned"],
            "source: this folder is an output",
        ),
    ],
)
def test_a_teacher_belongs_to_its_method(config, overrides, said):
    with pytest.raises(UserError, match=said):
        config(*overrides)


def test_the_memory_of_the_teacher_is_freed_with_that_of_the_model(trainer_of):
    trainer = trainer_of()
    release(trainer)
    assert sum(p.numel() for p in trainer.teacher_model.parameters()) == 0


def test_a_metric_may_choose_the_step(folder):
    main(compose_config(*TINY, *OPTION, "train.best.metric=exact_match", "train.best.eval_rows=2"))
    assert "eval_exact_match" in json.loads(Path("metrics/train.json").read_text())


def test_dvc_depends_on_the_folder_of_the_teacher(folder, config):
    assert config(*OPTION).train.teacher_dvc_dependency == "teacher"
    on_the_hub = config(*OPTION, "train.teacher_model.source=owner/name").train
    assert on_the_hub.teacher_dvc_dependency == config().train.teacher_dvc_dependency
