import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stages.core.config.schema import parse
from stages.core.data.records import PREPARED, read_records
from stages.core.errors import UserError
from stages.core.inference.classifying import ask_classifier
from stages.core.models.classifier import load_classifier
from stages.core.models.encoders import get_encoder
from stages.core.models.loading import TUNED, get_model
from stages.core.storage.files import write_jsonl
from stages.train.__main__ import main
from stages.train.methods import get_method
from tests.conftest import TINY, chat, compose_config

FAST = (
    "tracking=disabled",
    "train.args.num_train_epochs=12",
    "train.args.learning_rate=1e-2",
    "train.best.patience=null",
)
QUICK = "train.args.num_train_epochs=1"
ADAPTER = "train.adapter={r: 4, target_modules: all-linear}"
ENCODER = "train/encoder=tiny-random"
DECODER = "train/encoder=none"
NAMES = ("Ann", "Bob", "Xerox", "Yale Ltd")


def classified(n):
    return chat(f"{n} {'!?'[n % 2] * 8}", ("glad", "not sure")[n % 2], "Which mood?")


def tagged(n):
    draw = random.Random(n)
    names = draw.sample(NAMES, n % 3)
    listed = ", ".join(f"{name} - {'person' if name < 'M' else 'Company'}" for name in names)
    text = " ".join(["we", *(word for name in names for word in (name, "and")), "all", "went", "."])
    return chat(text, f"[{listed}]" if names else "Nobody is named.")


ROWS = {"sequence-classification": classified, "token-classification": tagged}


def write_rows(make, train=48):
    splits = {"train": range(train), "validation": range(100, 112), "test": range(200, 212)}
    for name, numbers in splits.items():
        write_jsonl(PREPARED / f"{name}.jsonl", [make(n) for n in numbers])


def options(method, *overrides):
    return [*TINY, *FAST, f"train={method}", *overrides]


def train(method, *overrides):
    main(compose_config(*options(method, *overrides)))
    return json.loads(Path("metrics/train.json").read_text())


def answers(split, method, *overrides):
    config = parse(compose_config(*options(method, *overrides)))
    records = read_records(split)
    return ask_classifier("tuned", *load_classifier(config, TUNED), config, records), records


def facts():
    return json.loads((TUNED / "training.json").read_text())["labels"]


def refused(method, *overrides):
    with pytest.raises(SystemExit) as stop:
        train(method, *overrides)
    assert not TUNED.exists()
    return str(stop.value)


@pytest.mark.parametrize("base", [ENCODER, DECODER])
@pytest.mark.parametrize(
    ("method", "measure"), [("sequence-classification", "accuracy"), ("token-classification", "f1")]
)
def test_a_head_of_labels_learns_and_answers_in_the_words_of_the_targets(
    workspace, method, measure, base
):
    write_rows(ROWS[method])
    numbers = train(method, base)
    assert (
        numbers["eval_loss"] < numbers["eval_loss_before_training"]
        and numbers[f"eval_{measure}"] == 1
    )
    found, records = answers("test", method, base)
    assert [answer.text for answer in found] == [record.target for record in records]
    assert [answer.id for answer in found] == [record.id for record in records]
    assert all(a.prompt_tokens > 3 and a.completion_tokens == 0 and a.seconds > 0 for a in found)
    marks = 2 if base == ENCODER else 0
    assert [a.prompt_tokens for a in found] == [
        len(r.messages[-2]["content"]) + marks for r in records
    ]  # bytes
    body = get_encoder(parse(compose_config(*options(method, base))))
    kind = "AutoModel" if base == ENCODER else "AutoModelForCausalLM"
    before = get_model(body, "float32", kind=kind).state_dict()
    after = load_file(TUNED / "model.safetensors")
    same = {name: weight for name, weight in after.items() if (rest := name.removeprefix("bert.")) in before
            and torch.equal(weight, before[rest])}  # fmt: skip
    assert len(after) > 10 and set(same) <= {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    names = json.loads((TUNED / "config.json").read_text())["id2label"]
    assert list(names.values()) == facts()["names"]
    assert body.path not in "".join(path.read_text() for path in TUNED.glob("*.json"))


@pytest.mark.parametrize("base", [ENCODER, DECODER])
@pytest.mark.parametrize("method", ["sequence-classification", "token-classification"])
def test_an_adapter_is_saved_with_its_head_and_comes_back(workspace, method, base):
    write_rows(ROWS[method])
    whole = "+train.args.per_device_eval_batch_size=12"
    numbers = train(method, base, ADAPTER, "train.args.num_train_epochs=2", whole)
    assert {path.name for path in TUNED.glob("*.safetensors")} == {"adapter_model.safetensors"}
    assert numbers["trained_parameters"] < 10_000
    config = parse(compose_config(*options(method, base, ADAPTER)))
    trained = get_method(config)
    _, rows = (trained.get_examples(read_records(split)) for split in ("train", "validation"))
    batch = [{key: row[key] for key in ("input_ids", "attention_mask", "labels")} for row in rows]
    with torch.inference_mode():
        loss = load_classifier(config, TUNED)[0](**trained.get_collator()(batch)).loss
    assert float(loss) == pytest.approx(numbers["eval_loss"], rel=1e-4)
    assert trained.base.path not in "".join(path.read_text() for path in TUNED.glob("*.json"))


def test_labels_that_training_never_saw_are_left_out_and_counted(workspace, capsys):
    write_rows(classified)
    known = [classified(n) for n in range(100, 110)]
    write_jsonl(PREPARED / "validation.jsonl", [*known, chat("1", "angry"), chat("2", "sad")])
    train("sequence-classification", ENCODER, QUICK)
    assert "validation: 2 rows have a label that no training row has" in capsys.readouterr().err
    assert facts()["names"] == ["glad", "not sure"] and facts()["validation"]["unknown_labels"] == 2


def test_entities_that_are_not_in_the_text_are_counted(workspace, capsys):
    write_rows(tagged)
    lost = [chat(f"we went {n}", "[Zoe - person, Cher - person]") for n in range(3)]
    write_jsonl(PREPARED / "train.jsonl", [*(tagged(n) for n in range(20)), *lost])
    train("token-classification", ENCODER, QUICK)
    assert "training: 6 entities are not in their text" in capsys.readouterr().err
    assert facts()["training"]["entities_lost"] == 6 and facts()["validation"]["entities_lost"] == 0
    assert facts()["names"] == ["O", "B-Company", "I-Company", "B-person", "I-person"]
    found, _ = answers("test", "token-classification", ENCODER)
    assert any(answer.text == "Nobody is named." for answer in found)  # what the training rows say


def test_texts_that_are_too_long_are_cut_and_counted(workspace, capsys):
    write_rows(tagged)
    train("token-classification", ENCODER, QUICK, "train.encoder.max_length=12")
    assert (
        "48 texts are longer than 12 tokens" in capsys.readouterr().err
        and facts()["training"]["texts_cut"] == 48
    )
    found, _ = answers("test", "token-classification", ENCODER, "train.encoder.max_length=12")
    assert {answer.prompt_tokens for answer in found} == {12}
    assert json.loads((TUNED / "tokenizer_config.json").read_text())["model_max_length"] == 12


@pytest.mark.parametrize(
    ("method", "row", "said"),
    [
        (
            "sequence-classification",
            lambda n: chat(f"q{n}", f"a {n}"),
            "48 of 48 training rows have a target that no other row has",
        ),
        (
            "sequence-classification",
            lambda n: chat(f"q{n}", "yes"),
            "all training rows have the label 'yes'",
        ),
        (
            "token-classification",
            lambda n: chat(f"q{n}", f"a {n}"),
            "no training target lists entities as [NAME - TYPE, NAME - TYPE]",
        ),
    ],
)
def test_targets_that_are_no_labels_are_refused(workspace, method, row, said):
    write_rows(row)
    assert said in refused(method, ENCODER)


def test_a_validation_split_without_a_known_label_is_refused(workspace):
    write_rows(classified)
    write_jsonl(PREPARED / "validation.jsonl", [chat("1", "angry")])
    assert "no validation row has a label that a training row has" in refused(
        "sequence-classification", ENCODER
    )


def test_an_encoder_reads_no_more_tokens_than_it_can(workspace):
    write_rows(classified)
    said = refused("sequence-classification", ENCODER, "train.encoder.max_length=513")
    assert "train.encoder.max_length: tiny-random-encoder reads at most 512 tokens, got 513" in said


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["train=sequence-classification", "evaluate.target_loglikelihood=true"],
            "evaluate.target_loglikelihood: train.method=sequence-classification trains",
        ),
        (
            ["train=token-classification", "evaluate.extra_arms=[tuned_long]"],
            "evaluate.extra_arms: train.method=token-classification trains",
        ),
        (
            [
                "train=token-classification",
                ENCODER,
                ADAPTER,
                "+train.quantization={load_in_4bit: true}",
            ],
            "train.quantization: an encoder is not quantized",
        ),
        (
            ["train=lora", "train/encoder=minilm"],
            "train.encoder: method sft trains `model`; choose train/encoder=none",
        ),
    ],
)
def test_what_makes_no_sense_with_labels_is_refused(config, overrides, said):
    with pytest.raises(UserError) as error:
        config(*overrides)
    assert said in str(error.value) and "conf_digest" not in str(error.value)


def test_accumulated_batches_are_one_batch(workspace):
    write_rows(classified)
    same = [
        DECODER,
        "+train.args.optim=sgd",
        "train.args.max_steps=3",
        "train.args.eval_strategy=no",
    ]
    found = []
    for batch, parts in ((8, 1), (4, 2)):
        sizes = [
            f"train.args.per_device_train_batch_size={batch}",
            f"train.args.gradient_accumulation_steps={parts}",
        ]
        train("sequence-classification", *same, *sizes)
        found.append(load_file(TUNED / "model.safetensors"))
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


def test_one_seed_gives_the_same_head_and_another_gives_another(workspace):
    write_rows(classified)
    found = []
    for seed in (1, 1, 2):
        method = get_method(
            parse(compose_config(*options("sequence-classification", DECODER, f"seed={seed}")))
        )
        method.get_examples(read_records("train"))
        found.append(method.get_model().score.weight)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_an_encoder_of_a_folder_and_a_folder_without_one(workspace, tmp_path):
    config = parse(compose_config(*options("sequence-classification", ENCODER)))
    write_rows(classified)
    folder = get_encoder(config).path
    there = ["train/encoder=hub", f"train.encoder.source.id={folder}"]
    assert train("sequence-classification", *there, QUICK)["steps"] > 0
    assert get_encoder(parse(compose_config(*options("sequence-classification", *there)))).sha256
    with pytest.raises(SystemExit, match=r"train\.encoder\.source\.id '.*nowhere'"):
        train(
            "sequence-classification",
            "train/encoder=hub",
            f"train.encoder.source.id={tmp_path}/nowhere",
        )
