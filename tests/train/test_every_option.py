"""Every option of conf/train runs to the end, changes what it should change, and nothing else."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from stages.core.config.model import RandomSource
from stages.core.config.schema import parse
from stages.core.data.records import PREPARED, Record
from stages.core.endpoint.client import Reply
from stages.core.errors import UserError
from stages.core.models.loading import CAUSAL, TUNED, get_tuned_model
from stages.core.models.made_models import make_random
from stages.core.storage.files import write_jsonl
from stages.train.__main__ import main
from stages.train.adapter import get_adapter
from stages.train.arguments import get_arguments
from stages.train.build_trainer import choose_auto
from stages.train.methods import get_method, teacher_answers
from tests.conftest import ROOT, TINY, compose_config

OPTIONS = sorted(path.stem for path in (ROOT / "conf" / "train").glob("*.yaml"))
FAST = (
    "tracking=disabled",
    "train.args.num_train_epochs=2",
    "train.args.learning_rate=1e-2",
    "train.args.warmup_steps=0",
    "train.args.per_device_train_batch_size=8",
    "train.args.gradient_accumulation_steps=1",
)
HEAD = "AutoModelForSequenceClassification"


def say(n: int, answer: str) -> list[dict[str, str]]:
    question = {"role": "user", "content": f"Say {'very ' * (n % 5)}{n}."}
    return [
        {"role": "system", "content": "Answer."},
        question,
        {"role": "assistant", "content": answer},
    ]


def label(n: int) -> Record:
    return Record.of(say(n, "very" if n % 5 else "plain"))


def entities(n: int) -> Record:
    question = {
        "role": "user",
        "content": f"Lender {n} pays {('Anna', 'Bert')[n % 2]} on behalf of Acme.",
    }
    answer = f"[{('Anna', 'Bert')[n % 2]} - PER, Acme - ORG]"
    return Record.of([question, {"role": "assistant", "content": answer}])


RECORDS: dict[str, Callable[[int], Record]] = {
    "chat": lambda n: Record.of(say(n, f"number {n}")),
    "preference": lambda n: Record.of(
        say(n, f"number {n}"),
        kind="preference",
        rejected={"role": "assistant", "content": f"I do not know {n}"},
    ),
    "unpaired": lambda n: Record.of(
        say(n, f"number {n}" if n % 2 else "no idea"), kind="unpaired", desirable=bool(n % 2)
    ),
    "text": lambda n: Record.of(
        [{"role": "assistant", "content": f"The number {n} comes after {n - 1}. " * 3}], kind="text"
    ),
}
DISTILL = (
    "train.teacher_model.source=teacher",
    "train.args.max_completion_length=8",
)
TEACHER = ("prompt/remote=local-server", "prompt.remote.model=big")
GRPO = (
    "train.grpo_rewards.primary.metric=chrf",
    "train.args.num_generations=4",
    "train.args.max_completion_length=8",
    "train.args.per_device_train_batch_size=24",
)


@dataclass
class Case:
    """What an option needs to run and what it trains."""

    records: Callable[[int], Record]
    trained: Callable[[str], bool] = lambda name: "_proj" in name
    overrides: tuple[str, ...] = ()
    kind: str = CAUSAL
    """The class of transformers that loads what was trained."""
    set_up: Callable[[], object] = lambda: None
    """Writes what the option reads besides the records."""
    learns: bool = True
    """Whether so few steps make the validation loss smaller."""


def save_teacher(seed: int = 7) -> Path:
    """Save a random model in `teacher`, wider than the tiny model and with the same tokens."""
    source = RandomSource(kind="random", hidden_size=32, layers=2, heads=2)
    folder = Path("teacher")
    tokenizer = get_method(parse(compose_config(*TINY))).base.path
    make_random(source, seed, tokenizer, folder)
    return folder


def everything(name: str) -> bool:
    return True


CASES = {
    "lora": Case(RECORDS["chat"]),
    "dora": Case(RECORDS["chat"]),
    "rslora": Case(RECORDS["chat"]),
    "qlora": Case(
        RECORDS["chat"], overrides=("model.source.hidden_size=64",)
    ),  # the block of bitsandbytes
    "full": Case(RECORDS["chat"], everything),
    "distill": Case(RECORDS["chat"], overrides=TEACHER),
    "distill-on-policy": Case(RECORDS["chat"], overrides=DISTILL, set_up=save_teacher),
    "pretrain": Case(RECORDS["text"], everything),
    "dpo": Case(RECORDS["preference"]),
    "orpo": Case(RECORDS["preference"]),
    "kto": Case(RECORDS["unpaired"]),
    "reward-model": Case(
        RECORDS["preference"], lambda name: "_proj" in name or name == "score.weight", kind=HEAD
    ),
    "grpo": Case(RECORDS["chat"], overrides=GRPO, learns=False),
    "sequence-classification": Case(label, everything, kind=HEAD),
    "token-classification": Case(entities, everything, kind="AutoModelForTokenClassification"),
}


def prepare(make: Callable[[int], Record]) -> dict[str, list[Record]]:
    """Three splits in `data/prepared`."""
    numbers = {"train": range(24), "validation": range(24, 30), "test": range(30, 36)}
    parts = {name: [make(n) for n in part] for name, part in numbers.items()}
    for name, records in parts.items():
        write_jsonl(PREPARED / f"{name}.jsonl", records)
    return parts


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.fixture(autouse=True)
def teacher(monkeypatch):
    """Answer instead of the teacher. tests/train/methods/test_teacher_answers.py asks a server."""

    def chat(endpoint, requests, section):
        return [Reply("I say no", 3, 3, 0.1, endpoint.model, None, False) for _ in requests]

    monkeypatch.setattr(teacher_answers, "chat", chat)


def test_no_option_is_forgotten():
    assert set(CASES) == set(OPTIONS)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_says_what_it_is_for_and_its_library_takes_it(config, tmp_path, option):
    assert (ROOT / "conf" / "train" / f"{option}.yaml").read_text().startswith("# ")
    checked = config(f"train={option}", *CASES[option].overrides)
    method = get_method(checked)
    given = choose_auto(method, 100)
    assert get_arguments(method, given, str(tmp_path), lower_is_better=True).seed == checked.seed
    assert (get_adapter(checked.train, method.task_type) is None) == (checked.train.adapter is None)


@pytest.mark.parametrize("option", OPTIONS)
def test_what_should_change_changes_and_the_rest_does_not(workspace, config, option):
    if option == "qlora":
        pytest.importorskip("bitsandbytes")
    case = CASES[option]
    overrides = (*FAST, f"train={option}", *case.overrides)
    records = prepare(case.records)
    case.set_up()
    main(compose_config(*TINY, *overrides))
    method = get_method(
        config(*overrides, *(["train.quantization=null"] if option == "qlora" else []))
    )
    method.get_examples(records["train"])  # where the labels of a head come from
    before = weights_of(method.get_model())
    after = weights_of(get_tuned_model(method.base, "float32", TUNED, case.kind))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if case.trained(name)}
    reloaded = json.loads((TUNED / "training.json").read_text())["loss_after_reloading"]
    assert reloaded["trained"] > 0
    assert reloaded["reloaded"] == pytest.approx(reloaded["trained"], rel=1e-5)
    assert ("merged" in reloaded) == (bool(method.config.train.adapter) and option != "qlora")
    numbers = json.loads(Path("metrics/train.json").read_text())
    assert numbers["tokens"] > 0
    assert numbers["eval_loss"] < numbers["eval_loss_before_training"] or not case.learns
    assert {"tokenizer.json", "training.json"} <= {path.name for path in TUNED.iterdir()}
    assert str(method.base.path) not in "".join(path.read_text() for path in TUNED.glob("*.json"))


def test_four_bits_without_their_library_say_what_to_install(workspace, monkeypatch):
    from transformers.quantizers import quantizer_bnb_4bit

    monkeypatch.setattr(quantizer_bnb_4bit, "is_bitsandbytes_available", lambda: False)
    prepare(RECORDS["chat"])
    with pytest.raises(SystemExit, match=r"train\.quantization: .*--group qlora"):
        main(compose_config(*TINY, *FAST, "train=qlora"))
    assert not TUNED.exists()


@pytest.mark.parametrize(
    "option", ["dpo", "orpo", "kto", "reward-model", "grpo", "distill-on-policy", "pretrain"]
)
def test_every_method_refuses_records_that_it_cannot_learn_from(config, option):
    wrong = RECORDS["text" if option != "pretrain" else "preference"](1)
    with pytest.raises(
        UserError, match=r"records of kind (text|preference): train\.method=[\w-]+ learns from"
    ):
        get_method(config(f"train={option}", *CASES[option].overrides)).get_examples([wrong])
