import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stages.core.data.prompts import build_prompt, encode_prompt, encode_target
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.models.loading import TUNED, get_model, get_tuned_model
from stages.core.tracking.tracker import Tracker
from stages.train.__main__ import main
from stages.train.arguments import choose_attention
from stages.train.build_trainer import get_trainer
from stages.train.examples import IGNORED, LeftPadding, subsample
from stages.train.methods import get_method
from stages.train.monitoring.divergence import DivergenceGuard, explain_memory
from tests.conftest import TINY, compose_config, entered, write_splits

FAST = ("train.args.num_train_epochs=1", "train.args.learning_rate=1e-2", "tracking=disabled")


def weights(folder: Path = TUNED):
    return load_file(next(folder.glob("*.safetensors")))


def examples_of(config, records, *overrides):
    return get_method(config(*overrides)).get_examples(records)


def test_only_the_answer_and_its_end_are_trained(config, prepared):
    method = get_method(config())
    for row, record in zip(method.get_examples(prepared["train"]), prepared["train"], strict=True):
        trained = [token for token in row["labels"] if token != IGNORED]
        assert method.tokenizer.decode(trained) == record.target + "<|im_end|>"
        assert row["input_ids"][-len(trained) :] == trained


def test_training_sees_the_prompt_that_is_generated_from(config, prepared):
    method = get_method(config("prompt.tuned_system_prompt=Brief."))
    for row, record in zip(method.get_examples(prepared["train"]), prepared["train"], strict=True):
        prompt = encode_prompt(method.tokenizer, build_prompt(record, "Brief."), record.tools)
        answer = encode_target(method.tokenizer, record)
        assert row["input_ids"] == prompt + answer
        assert row["labels"] == [IGNORED] * len(prompt) + answer


def test_an_answer_of_weight_0_is_read_and_not_learned(config, workspace):
    turns = [
        ("user", "One?", None),
        ("assistant", "1", 0),
        ("user", "Two?", None),
        ("assistant", "2", 1),
    ]
    messages = [
        {"role": role, "content": text} | ({} if w is None else {"weight": w})
        for role, text, w in turns
    ]
    method = get_method(config())
    [row] = method.get_examples([Record.of(messages)])
    assert (
        method.tokenizer.decode([token for token in row["labels"] if token != IGNORED])
        == "2<|im_end|>"
    )
    assert "assistant\n1<|im_end|>" in method.tokenizer.decode(row["input_ids"])


def test_plain_text_is_learned_whole_in_pieces_of_the_limit(config, workspace):
    text = "abcdefghij" * 10
    records = [Record.of([{"role": "assistant", "content": text}], kind="text")]
    method = get_method(config("train.record_types=[text]", "model.max_length=32"))
    rows = method.get_examples(records)
    assert [row["length"] for row in rows] == [32, 32, 32, 5] and {row["row"] for row in rows} == {
        0
    }
    assert all(row["labels"] == [IGNORED, *row["input_ids"][1:]] for row in rows)
    assert (
        method.tokenizer.decode([token for row in rows for token in row["input_ids"]])
        == text + "<|im_end|>"
    )


def test_the_short_instruction_replaces_the_rows_own(config, prepared):
    method = get_method(config("prompt.tuned_system_prompt=Brief."))
    read = method.tokenizer.decode(method.get_examples(prepared["train"])[0]["input_ids"])
    assert "Brief." in read and "Answer." not in read


def test_rows_over_the_limit_are_named(config, prepared):
    with pytest.raises(
        UserError, match=r"24 training row\(s\) are longer than model.max_length=20"
    ):
        examples_of(config, prepared["train"], "model.max_length=20")


def test_records_of_another_kind_are_refused(config, prepared):
    with pytest.raises(
        UserError,
        match=r"records of kind chat: train.method=sft learns from text \(train.record_types\)",
    ):
        examples_of(config, prepared["train"], "train.record_types=[text]")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a trained model, which the tests leave as it is."""
    folder = tmp_path_factory.mktemp("trained")
    with entered(folder):
        write_splits()
        main(compose_config(*TINY, *FAST))
    return folder


def test_the_folder_is_whole_and_names_no_path_of_this_machine(trained, monkeypatch, base):
    monkeypatch.chdir(trained)
    assert {"chat_template.jinja", "tokenizer.json", "training.json"} <= {
        path.name for path in TUNED.iterdir()
    }
    assert not {"README.md", "training_args.bin"} & {path.name for path in TUNED.iterdir()}
    assert str(base.path) not in "".join(path.read_text() for path in TUNED.glob("*.json"))
    training = json.loads((TUNED / "training.json").read_text())
    assert training["auto"]["micro_batch_tokens"] == {"value": 768, "why": "on a CPU"}
    assert "auto" not in training["numbers"]  # which the learning curve gives to other trainings
    # peft keeps these names in a set, whose order is another one in every process.
    names = json.loads((TUNED / "adapter_config.json").read_text())["target_modules"]
    assert len(names) > 6 and names == sorted(names)


def test_one_seed_gives_the_same_weights_twice_and_another_gives_others(prepared):
    found = []
    for seed in (1, 1, 2):
        main(compose_config(*TINY, *FAST, f"seed={seed}", "model.source.hidden_size=16"))
        found.append(weights())
        shutil.rmtree(TUNED)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert any(not torch.equal(found[0][name], found[2][name]) for name in found[0])


def trainer_of(config, prepared, tmp_path, *overrides):
    checked = config(*FAST, *overrides)
    method = get_method(checked)
    tracker = Tracker(checked, None)
    trainer = get_trainer(
        method, prepared["train"], prepared["validation"], tracker, str(tmp_path / "trl")
    )
    return trainer, trainer.train_dataset, method.tokenizer


def plain(rows):
    return [{key: row[key] for key in ("input_ids", "labels")} for row in rows]


def test_micro_batches_do_not_change_the_gradient(config, prepared, tmp_path):
    gradients = []
    for budget in (16, 300, 100_000):
        override = f"train.micro_batch_tokens={budget}"
        trainer, rows, tokenizer = trainer_of(config, prepared, tmp_path, override, "train=full")
        trainer.create_optimizer()
        batch = LeftPadding(tokenizer.pad_token_id)([rows[i] for i in range(8)])
        batch["row"] = torch.arange(8)
        tokens = (batch["labels"] != IGNORED).sum()
        trainer.current_gradient_accumulation_steps = 1
        loss = trainer.training_step(trainer.model, batch, tokens)
        gradients.append((loss, {name: p.grad for name, p in trainer.model.named_parameters()}))
    for loss, gradient in gradients[1:]:
        assert torch.allclose(loss, gradients[0][0], rtol=1e-5)
        assert all(
            torch.allclose(gradient[n], gradients[0][1][n], atol=1e-6, rtol=1e-3) for n in gradient
        )


def test_the_loss_is_that_of_transformers(config, prepared, base, tmp_path):
    trainer, rows, _ = trainer_of(config, prepared, tmp_path)
    model = get_model(base, "float32")
    total = 0.0
    tokens = 0
    for row in rows.select(range(5)):
        ids = torch.tensor([row["input_ids"]])
        labels = torch.tensor([row["labels"]])
        count = int((labels != IGNORED).sum())
        total = total + float(model(ids, labels=labels).loss) * count
        tokens = tokens + count
    assert trainer.evaluate(rows.select(range(5)))["eval_loss"] == pytest.approx(
        total / tokens, rel=1e-5
    )


def test_micro_batches_stay_within_the_budget(config, prepared, tmp_path):
    trainer, rows, tokenizer = trainer_of(
        config, prepared, tmp_path, "train.micro_batch_tokens=200"
    )
    batch = LeftPadding(tokenizer.pad_token_id)([rows[i] for i in range(24)])
    parts = list(trainer._micro_batches(batch))
    assert sum(len(part["input_ids"]) for part in parts) == 24
    assert all(
        int(part["attention_mask"].sum()) <= 200 or len(part["input_ids"]) == 1 for part in parts
    )
    assert sum(int(part["attention_mask"].sum()) for part in parts) == int(
        batch["attention_mask"].sum()
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+train.args.learning_rat=1", "learning_rat"),
        ("+train.args.output_dir=x", "train.args.output_dir: Tuneproof sets this argument"),
        ("+train.adapter.rank=3", "rank"),
    ],
)
def test_an_argument_that_the_library_does_not_know_is_named(prepared, override, said):
    with pytest.raises(SystemExit) as stop:
        main(compose_config(*TINY, *FAST, override))
    assert str(stop.value).startswith("\ntrain: ") and said in str(stop.value)
    assert not TUNED.exists()


def test_attention_is_chosen_by_method_and_rows(config, base):
    model = get_model(base, "float32")
    plain = config("train=lora").train
    compiled = config("train=lora", "train.args.torch_compile=true").train
    assert (
        choose_attention(plain, model, 100, "float32")
        == choose_attention(plain, model, 5000, "float32")
        == "per_row"
    )
    assert choose_attention(compiled, model, 100, "float32") == "eager"
    assert choose_attention(compiled, model, 5000, "float32") == "sdpa"
    assert (
        choose_attention(config("train=lora", "train.attention=sdpa").train, model, 100, "float32")
        == "sdpa"
    )
    assert choose_attention(config("train=dpo").train, model, 100, "float32") == "eager"
    with pytest.raises(UserError, match=r"train\.attention=per_row is only for train\.method=sft"):
        choose_attention(
            config("train=dpo", "train.attention=per_row").train, model, 100, "float32"
        )
    with pytest.raises(UserError, match="layers that are not compiled"):
        choose_attention(
            compiled.model_copy(update={"attention": "per_row"}), model, 100, "float32"
        )
    model.config.sliding_window = 64
    assert choose_attention(plain, model, 100, "float32") == "eager"


def test_a_cast_leaves_the_rotary_frequencies_alone(trained, monkeypatch, base):
    monkeypatch.chdir(trained)
    model = get_tuned_model(base, "bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert all(
        buffer.dtype == torch.float32
        for name, buffer in model.named_buffers()
        if "inv_freq" in name
    )


def test_a_smaller_share_is_a_part_of_a_larger_one(prepared):
    rows = prepared["train"]
    parts = [subsample(rows, share, seed=42) for share in (0.25, 0.5, 1.0)]
    assert [len(part) for part in parts] == [6, 12, 24] and parts[2] == rows
    ids = [{record.id for record in part} for part in parts]
    assert ids[0] < ids[1] < ids[2]
    assert {record.id for record in subsample(rows, 0.25, seed=1)} != ids[0]
    assert len(subsample(rows, 0.001, seed=42)) == 1


def test_a_loss_that_is_no_number_stops_with_step_rate_and_rows(prepared):
    with pytest.raises(SystemExit) as stop:
        main(
            compose_config(
                *TINY, *FAST, "train.args.learning_rate=1e38", "train.args.warmup_steps=0"
            )
        )
    said = str(stop.value)
    assert "the loss is nan at step 2 (learning rate" in said or "training diverges" in said
    assert "Lower train.args.learning_rate" in said and any(
        record.id in said for record in prepared["train"]
    )
    assert not TUNED.exists() and not Path("metrics/train.json").exists()


def test_a_loss_that_runs_away_stops_and_one_that_wavers_does_not():
    watch = DivergenceGuard(["a", "b"])
    for step, loss in enumerate(
        (0.2, 9.0, 0.3, 7.0, 1.0), 1
    ):  # the first batches may be of any kind
        watch.look(loss, step, 1e-3, [0])
    for step in range(6, 200):
        watch.look(0.5 + 0.4 * (-1) ** step, step, 1e-3, [0])
    with pytest.raises(UserError, match=r"training diverges: the running mean .* Rows .*: b"):
        for step in range(200, 300):
            watch.look(9.0, step, 1e-3, [1])
    assert step < 220
    with pytest.raises(UserError, match=r"the loss is inf at step 7 \(learning rate 0\.001\)"):
        watch.look(float("inf"), 7, 1e-3, [0, 1])


def test_a_loss_that_runs_away_at_once_is_held_against_the_one_before_training():
    watch = DivergenceGuard(["a"])
    watch.begin(3.3)
    watch.begin(0.1)  # a later evaluation
    said = r"diverges: the running mean of the loss rose from 3\.300 to \d+\.\d+ at step 20 \("
    with pytest.raises(UserError, match=said):
        for step, loss in enumerate((3.3, 5.0, *[10.8] * 30), 1):
            watch.look(loss, step, 1e2, [0])
    resumed = DivergenceGuard(["a"])
    resumed.load(watch.dump())
    with pytest.raises(UserError, match=r"rose from 3\.300 to .* at step 21"):
        resumed.look(10.8, 21, 1e2, [0])


def test_a_short_training_that_runs_away_stops_at_its_last_step(prepared):
    wild = ("train=full", "train.args.learning_rate=1", "train.args.lr_scheduler_type=constant")
    with pytest.raises(
        SystemExit, match=r"training diverges: .* rose from .* at step 6 \(learning rate 1\)\. Rows"
    ):
        main(
            compose_config(
                *TINY, *FAST, *wild, "train.args.warmup_steps=0", "train.args.num_train_epochs=3"
            )
        )
    assert not TUNED.exists() and not Path("metrics/train.json").exists()


def test_too_little_memory_says_which_knob_to_turn(config):
    with (
        pytest.raises(UserError, match=r"lower train\.micro_batch_tokens \(now 768"),
        explain_memory(config().train),
    ):
        torch.empty(2**55)
    with (
        pytest.raises(RuntimeError, match="shape"),
        explain_memory(config().train),
    ):  # anything else stays what it is
        torch.ones(2) @ torch.ones(3, 1)


def test_a_dry_run_does_two_steps_and_writes_nothing(prepared, workspace, monkeypatch, capsys):
    before = sorted(workspace.rglob("*"))
    main(
        compose_config(
            *TINY, *FAST, "train.dry_run=true", "train.args.per_device_train_batch_size=4"
        )
    )
    said = capsys.readouterr().err
    assert "Dry run: 2 steps" in said and "All 6 steps" in said
    assert sorted(workspace.rglob("*")) == before
    monkeypatch.setenv("DVC_STAGE", "train")
    with pytest.raises(SystemExit, match="outside DVC"):
        main(compose_config(*TINY, *FAST, "train.dry_run=true"))
