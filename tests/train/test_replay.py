"""Replay rows: written by the base model or read from a file, mixed in, recorded; on a tiny model that can chat."""

import json
import os
import threading
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from stages.core.config.schema import parse
from stages.core.data.prompts import encode_prompt
from stages.core.environment import processes
from stages.core.errors import UserError
from stages.core.models.loading import TUNED, get_model
from stages.core.planning.auto import count_replay_rows
from stages.core.storage.files import read_json, read_jsonl, sha256_file, write_jsonl
from stages.core.tracking.tracker import Tracker
from stages.train import replay_writer
from stages.train.__main__ import main
from stages.train.build_trainer import get_trainer
from stages.train.examples import IGNORED, LeftPadding
from stages.train.methods import get_method
from stages.train.replay import FILE, encode_rows, mix_replay
from stages.train.replay_writer import write_rows
from tests.conftest import TINY, compose_config
from tests.train.monitoring.test_resume import (
    SMALL,
    Killed,
    read,
    resumed,
    run,
    same,
    stop_at,
)

REPLAY = ("train.replay.fraction=0.2", "train.replay.rows=4")


@pytest.fixture
def method(talker):
    return lambda *overrides: get_method(parse(compose_config(*TINY, *talker, *overrides)))


def chats(path: Path, *rows):
    write_jsonl(
        path,
        [{"messages": [{"role": role, "content": text} for role, text in row]} for row in rows],
    )


def test_the_base_model_writes_questions_and_its_own_answers(method, workspace):
    found = method(*REPLAY)
    rows, seconds = write_rows(found, [], 8)
    assert len(rows) == 8 == len({row.messages[0]["content"] for row in rows}) and seconds > 0
    assert all(
        [message["role"] for message in row.messages] == ["user", "assistant"] for row in rows
    )
    assert sum(row.messages[0]["content"].startswith("Say ") for row in rows) >= 6
    model = get_model(found.base, "float32")
    tokenizer = found.tokenizer
    for row, learned in zip(rows[:3], encode_rows(found, rows), strict=False):
        prompt = torch.tensor([encode_prompt(tokenizer, row.messages[:1])])
        said = model.generate(prompt, do_sample=False, max_new_tokens=24)[0, prompt.shape[1] :]
        assert learned["input_ids"] == [*prompt[0].tolist(), *said.tolist()]
        assert [token for token in learned["labels"] if token != IGNORED] == said.tolist()
        assert tokenizer.decode(said, skip_special_tokens=True) == row.messages[1]["content"]


def test_one_seed_writes_the_same_rows_and_a_larger_number_begins_with_them(
    method, workspace, monkeypatch, tmp_path
):
    few, _ = write_rows(method(), [], 4)
    many, _ = write_rows(method(), [], 40)
    assert many[:4] == few and len(many) == 40
    assert write_rows(method("seed=7"), [], 4)[0] != few
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "other"))
    assert write_rows(method(), [], 4)[0] == few


def test_rows_in_the_cache_are_not_written_again(method, workspace, monkeypatch):
    first = write_rows(method(), [], 4)
    monkeypatch.setattr(replay_writer, "get_model", None)
    assert write_rows(method(), [], 4) == first


def test_a_model_that_writes_nothing_of_use_is_said_to(config, workspace, monkeypatch):
    monkeypatch.setattr(replay_writer, "QUESTION_TOKENS", 4)  # too few for SHORTEST characters
    with pytest.raises(
        UserError,
        match=r"tiny-random wrote 0 useful rows in 32 attempts, but 8 are wanted\. Lower train",
    ):
        write_rows(get_method(config()), [], 8)


def test_a_template_that_ends_no_turn_of_the_user_is_refused(method, workspace):
    found = method("seed=11")
    found.tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    )
    with pytest.raises(UserError, match="does not end a user's turn with an end token"):
        write_rows(found, [], 4)


def mixed(found, records, folder):
    return mix_replay(found, found.get_examples(records), records, folder)


def test_the_share_is_that_of_all_rows_and_few_rows_are_repeated(method, prepared, workspace):
    found = method("train.replay.fraction=0.4", "train.replay.rows=6")
    examples, ids = mixed(found, prepared["train"], workspace)
    assert len(examples) == 24 + 16 and len(ids) == 24 + 6
    assert count_replay_rows(found.config.train, 24) == 16
    places = examples["row"][24:]
    assert set(places) == set(range(24, 30)) and all(
        ids[place].startswith("replay-") for place in places
    )
    facts = found.metadata["replay"]
    assert (facts["different_rows"], facts["rows_an_epoch"], facts["fraction"]) == (6, 16, 0.4)
    assert facts["tokens_an_epoch"] == sum(examples["length"][24:])


@pytest.mark.parametrize(("given", "share"), [("null", 0.25), (0.6, 0.6)])
def test_the_share_of_the_loss_is_right_however_long_the_answers_are(
    method, prepared, workspace, given, share
):
    overrides = (
        "train.replay.fraction=0.25",
        f"train.replay.loss_fraction={given}",
        "train.replay.rows=4",
        "train.args.learning_rate=1e-3",
        "train=full",
    )
    found = method(*overrides)
    tracker = Tracker(found.config, None)
    trainer = get_trainer(
        found, prepared["train"], prepared["validation"], tracker, str(workspace / "trl")
    )
    rows = trainer.train_dataset

    def mean(part):
        return trainer.evaluate(part.remove_columns("weight"))["eval_loss"]

    task = mean(rows.select(range(24)))
    expected = (1 - share) * task + share * mean(rows.select(range(24, len(rows))))
    trainer.create_optimizer()
    batch = LeftPadding(found.tokenizer.pad_token_id)(
        [{key: row[key] for key in ("input_ids", "labels", "weight")} for row in rows]
    )
    batch["row"] = torch.arange(len(rows))
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer.training_step(trainer.model, batch, (batch["labels"] != IGNORED).sum())
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_without_a_share_nothing_is_mixed_in(method, prepared, workspace):
    found = method()
    examples, ids = mixed(found, prepared["train"], workspace)
    assert (
        len(examples) == len(ids) == 24
        and "replay" not in found.metadata
        and not (workspace / FILE).exists()
    )


def test_rows_of_a_file_keep_their_own_system_message(config, prepared, workspace):
    chats(
        Path("general.jsonl"),
        [("system", "Be a pirate."), ("user", "Hello?"), ("assistant", "Arr!")],
        [("user", "Bye?"), ("assistant", "Bye.")],
    )
    given = (
        "train.replay.fraction=0.1",
        "train.replay.source=general.jsonl",
        "prompt.tuned_system_prompt=Brief.",
    )
    found = get_method(config(*given))
    examples, _ = mixed(found, prepared["train"], workspace)
    read = [found.tokenizer.decode(row["input_ids"]) for row in examples]
    assert all("Brief." in text for text in read[:24]) and not any(
        "Brief." in text for text in read[24:]
    )
    assert "Be a pirate." in read[24] and "system" not in read[25]
    learned = [
        found.tokenizer.decode([t for t in row["labels"] if t != IGNORED]) for row in examples
    ]
    assert learned[24:26] == ["Arr!<|im_end|>", "Bye.<|im_end|>"]


def test_files_of_a_folder_are_drawn_by_their_weights(config, prepared, workspace):
    Path("general").mkdir()
    chats(
        Path("general/many.jsonl"), *([("user", f"M{n}?"), ("assistant", "Yes")] for n in range(50))
    )
    chats(Path("general/few.jsonl"), [("user", "F?"), ("assistant", "No")])
    given = ("train.replay.fraction=0.5", "train.replay.source=general", "train.replay.rows=20")
    found = get_method(config(*given, "+train.replay.weights={many: 1, few: 3}"))
    task = prepared["train"] * 10
    examples, ids = mixed(found, task, workspace)
    drawn = [ids[row] for row in examples["row"][len(task) :]]
    few = sum(name == "replay-few-1" for name in drawn)
    many = [name for name in drawn if name.startswith("replay-many-")]
    # 240 rows with a probability of 3/4 each: four standard deviations are 27 rows.
    assert len(drawn) == 240 and abs(few - 180) < 27 and few + len(many) == 240
    assert len(set(many)) == 20 and many[20:40] == many[:20]
    assert found.metadata["replay"]["shares"] == {"many": 0.25, "few": 0.75}
    equal = get_method(config(*given))
    (workspace / "equal").mkdir()
    again, _ = mixed(equal, task, workspace / "equal")
    assert equal.metadata["replay"]["shares"] == {"many": 0.5, "few": 0.5}
    assert again["row"] != examples["row"]


def test_the_base_model_writes_rows_beside_those_of_a_file(talker, prepared, workspace):
    chats(Path("general.jsonl"), [("user", "Hello?"), ("assistant", "Arr!")])
    given = ("train.replay.fraction=0.5", "train.replay.source=general.jsonl")
    more = ("train.replay.rows=4", "train.replay.task_questions=0")
    weights = "+train.replay.weights={general: 1, self: 1}"
    found = get_method(parse(compose_config(*SMALL, *talker, *given, *more, weights)))
    _, ids = mixed(found, prepared["train"], workspace)
    assert ids[len(prepared["train"]) :] == [
        "replay-general-1",
        *(f"replay-{n}" for n in range(1, 5)),
    ]


@pytest.mark.parametrize(
    "weights", ["{general: 0}", "{other: 1}", "{general: 1, other: 1}", "{self: 1}"]
)
def test_weights_that_do_not_fit_the_files_are_refused(config, prepared, workspace, weights):
    chats(Path("general.jsonl"), [("user", "Hello?"), ("assistant", "Arr!")])
    given = ("train.replay.fraction=0.2", "train.replay.source=general.jsonl")
    found = get_method(config(*given, f"+train.replay.weights={weights}"))
    with pytest.raises(UserError, match="a weight of each of general, self, and one above 0"):
        mixed(found, prepared["train"], workspace)


def test_a_folder_without_files_of_chats_is_refused(config, prepared, workspace):
    Path("general").mkdir()
    found = get_method(config("train.replay.fraction=0.2", "train.replay.source=general"))
    with pytest.raises(UserError, match="the folder has no file that ends in"):
        mixed(found, prepared["train"], workspace)


def test_of_an_answer_that_was_cut_no_end_is_learned(config, prepared, workspace):
    row = {
        "messages": [
            {"role": "user", "content": "Count."},
            {"role": "assistant", "content": "One, two,"},
        ]
    }
    write_jsonl(Path("general.jsonl"), [{**row, "unfinished": True}])
    found = get_method(config("train.replay.fraction=0.05", "train.replay.source=general.jsonl"))
    examples, _ = mixed(found, prepared["train"], workspace)
    assert (
        found.tokenizer.decode([t for t in examples[-1]["labels"] if t != IGNORED]) == "One, two,"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "general.jsonl: the file does not exist. Set a JSONL file of chats, a folder"),
        ("\n", "general.jsonl: the file is empty"),
        ('{"messages": []}', "general.jsonl, line 1: expected an object whose `messages`"),
        ('\n{"messages": [{"role": "user", "content": "Hi"}]}', "general.jsonl, line 2: expected"),
        ("[1]", "line 1: expected"),
        ("no JSON", "line 1: expected"),
        (
            json.dumps(
                {
                    "messages": [
                        {"role": "user", "content": "x" * 200},
                        {"role": "assistant", "content": "y"},
                    ]
                }
            ),
            r"replay-general-1 has \d+ tokens, which is more than model.max_length=120",
        ),
    ],
)
def test_a_file_that_is_no_use_is_named_with_its_line(config, prepared, workspace, content, said):
    if content is not None:
        Path("general.jsonl").write_text(content)
    found = get_method(
        config(
            "train.replay.fraction=0.2", "train.replay.source=general.jsonl", "model.max_length=120"
        )
    )
    with pytest.raises(UserError, match=said):
        mixed(found, prepared["train"][:1] * 4, workspace)


def test_training_keeps_the_rows_beside_the_model_and_their_hash(talker, prepared):
    main(compose_config(*SMALL, *talker, *REPLAY))
    facts = read_json(TUNED / "training.json")
    numbers = read_json(Path("metrics/train.json"))
    assert (
        facts["replay"]["sha256"] == sha256_file(TUNED / FILE)
        and len(read_jsonl(TUNED / FILE)) == 4
    )
    assert facts["replay"]["source"] == "self"
    assert read_json(Path("models/measured/tuned/42.json"))["replay_writing_seconds"] > 0
    assert numbers["steps"] == 3 * 8  # (24 + 6) rows in batches of four
    method = get_method(parse(compose_config(*SMALL, *talker)))
    task = sum(method.get_examples(prepared["train"])["length"])
    assert numbers["tokens"] == 3 * (task + facts["replay"]["tokens_an_epoch"])


def test_a_killed_run_with_replay_rows_ends_with_the_very_weights(
    talker, prepared, monkeypatch, tmp_path
):
    more = (*talker, *REPLAY)
    whole = run(*more)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, 10)
        run(*more)
    monkeypatch.setenv(
        "TUNEPROOF_CACHE", str(tmp_path / "empty")
    )  # the checkpoints' folder has the rows too
    monkeypatch.setattr(replay_writer, "get_model", None)
    main(compose_config(*SMALL, *more))
    same(whole, read())
    assert resumed() == [10]


def test_a_changed_file_of_chats_trains_anew(prepared):
    given = ("train.replay.fraction=0.1", "train.replay.source=general.jsonl")
    chats(Path("general.jsonl"), [("user", "Hello?"), ("assistant", "Arr!")])
    main(compose_config(*SMALL, *given))
    before = load_file(next(TUNED.glob("*.safetensors")))
    written = (TUNED / "training.json").stat().st_mtime_ns
    main(compose_config(*SMALL, *given))
    assert (TUNED / "training.json").stat().st_mtime_ns == written  # it was not trained again
    chats(Path("general.jsonl"), [("user", "Hello?"), ("assistant", "Ahoy there!")])
    main(compose_config(*SMALL, *given))
    assert any(
        not torch.equal(value, load_file(next(TUNED.glob("*.safetensors")))[n])
        for n, value in before.items()
    )


def test_a_second_process_waits_for_the_first_ones_rows(config, prepared, workspace, monkeypatch):
    chats(Path("general.jsonl"), [("user", "Hello?"), ("assistant", "Arr!")])
    given = config("train.replay.fraction=0.1", "train.replay.source=general.jsonl")
    first = get_method(given)
    second = get_method(given)
    monkeypatch.setenv("TUNEPROOF_WORKER", str(workspace))
    monkeypatch.setenv("RANK", "1")
    found = []
    waiting = threading.Thread(
        target=lambda: found.append(mixed(second, prepared["train"], workspace))
    )
    looked = threading.Event()
    monkeypatch.setattr(processes, "time", SimpleNamespace(sleep=lambda _: looked.set()))
    waiting.start()
    assert looked.wait(30) and not (workspace / FILE).exists()
    os.environ["RANK"] = "0"
    expected = mixed(first, prepared["train"], workspace)
    waiting.join(timeout=30)
    assert found and found[0][0].to_list() == expected[0].to_list() and found[0][1] == expected[1]


def test_the_estimate_counts_the_replay_rows(config):
    from stages.core.planning.estimate import REPLAY_TOKENS, estimate_training

    plain = config()
    more = config("train.replay.fraction=0.2")
    one, other = (
        estimate_training(c.train, None, 80, 8000, 800, 512, "float32") for c in (plain, more)
    )
    assert one["steps"] == 2 * 5 and other["steps"] == 2 * 7  # 80 and 100 rows in batches of 16
    assert other["tokens_per_epoch"] == 8000 + 20 * REPLAY_TOKENS


def test_the_estimate_counts_what_the_base_model_reads_for_its_probabilities(config):
    from stages.core.planning.estimate import REPLAY_TOKENS, base_operations, operations
    from stages.core.planning.model_dimensions import ModelDimensions

    sizes = {field.name: 8 for field in fields(ModelDimensions)}
    dimensions = ModelDimensions(**sizes)
    kl, nll = (config(f"train.replay.loss={loss}").train for loss in ("kl", "nll"))
    forward = operations(config("train=full").train, dimensions, 5 * REPLAY_TOKENS, 5 * 24) / 3
    assert base_operations(kl, dimensions, 5) == forward
    assert base_operations(nll, dimensions, 5) == 0


def test_replay_is_for_answers_to_chats():
    with pytest.raises(UserError, match=r"train\.replay\.fraction: replay rows weight the loss"):
        parse(compose_config(*TINY, "+train.args.loss_type=dft", "train.replay.fraction=0.2"))
    for option in ("train=dpo", "train=pretrain"):
        with pytest.raises(UserError, match=r"train\.replay\.fraction: must be 0"):
            parse(compose_config(*TINY, option, "train.replay.fraction=0.2"))


def test_a_loss_that_runs_away_names_replay_rows_as_such():
    from stages.train.monitoring.divergence import DivergenceGuard

    with pytest.raises(
        UserError, match=r"train\.jsonl and of train\.replay \(replay-…\): a, replay-1\. Lower"
    ):
        DivergenceGuard(["a", "replay-1"]).look(float("nan"), 1, 1e-3, [0, 1])
