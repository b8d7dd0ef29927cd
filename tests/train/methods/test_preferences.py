"""Learning from pairs and from judged answers: what the models are given, what is compared with what, what is saved."""

import math

import pytest
import torch

from stages.core.data.prompts import build_prompt, encode_prompt, encode_target
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.inference.asking import ask
from stages.core.models.loading import TUNED, get_dtype, get_tuned_model
from stages.core.tracking.tracker import Tracker
from stages.train.__main__ import main
from stages.train.build_trainer import get_trainer
from stages.train.methods import get_method
from stages.train.monitoring.validation import Validation
from tests.conftest import TINY, compose_config
from tests.train.monitoring.test_resume import Killed, read, resumed, same, stop_at
from tests.train.test_every_option import FAST, HEAD, RECORDS, prepare

SHORT = "prompt.tuned_system_prompt=Brief."
OPTIONS = ("dpo", "orpo", "kto", "reward-model")
KIND = {"dpo": "preference", "orpo": "preference", "kto": "unpaired", "reward-model": "preference"}


def hard(kind: str) -> Record:
    """An answer with a weight, after an earlier one and a call of a function."""
    turns = [
        ("system", "Long."),
        ("user", "One?"),
        ("assistant", "1"),
        ("user", "Two?"),
        ("assistant", "2 "),
    ]
    messages = [{"role": role, "content": text} for role, text in turns]
    messages[-1]["weight"] = 0
    judged = (
        {"rejected": {"role": "assistant", "content": " 3", "weight": 1}}
        if kind == "preference"
        else {}
    )
    judged |= {"desirable": True} if kind == "unpaired" else {}
    return Record.of(
        messages, kind=kind, tools=[{"type": "function", "function": {"name": "add"}}], **judged
    )


def expected(tokenizer, record):
    """Token ids of the prompt and of both answers by the functions that generation and evaluation use."""
    prompt = encode_prompt(tokenizer, build_prompt(record, "Brief."), record.tools)
    worse = Record(
        record.id, [*record.prompt, record.rejected or {"role": "assistant", "content": ""}]
    )
    return prompt, encode_target(tokenizer, record), encode_target(tokenizer, worse)


def trainer_of(config, tmp_path, option, *overrides, records=None):
    checked = config(*FAST, f"train={option}", SHORT, *overrides)
    method = get_method(checked)
    parts = [RECORDS[KIND[option]](n) for n in range(24)] if records is None else records
    return get_trainer(
        method, parts, parts[:6], Tracker(checked, None), str(tmp_path / "checkpoints")
    )


def real(batch, name, i):
    """The tokens of a row of a batch, without padding."""
    return batch[f"{name}input_ids"][i][batch[f"{name}attention_mask"][i].bool()].tolist()


def labelled(batch, name, i):
    """Those that count."""
    if f"{name}labels" in batch:
        return [token for token in batch[f"{name}labels"][i].tolist() if token != -100]
    return batch[f"{name}input_ids"][i][batch[f"{name}completion_mask"][i].bool()].tolist()


@pytest.mark.parametrize("option", OPTIONS)
def test_batches_hold_the_tokens_of_generation_and_evaluation(config, tmp_path, option):
    records = [hard(KIND[option]), *[RECORDS[KIND[option]](n) for n in range(7)]]
    trainer = trainer_of(config, tmp_path, option, records=records)
    [batch] = list(trainer.get_train_dataloader())
    rows = batch.pop("row").tolist()
    assert sorted(rows) == list(range(8))
    for i, row in enumerate(rows):
        prompt, better, worse = expected(trainer.processing_class, records[row])
        if option == "orpo":
            assert (
                real(batch, "chosen_", i) == prompt + better
                and real(batch, "rejected_", i) == prompt + worse
            )
            assert (
                labelled(batch, "chosen_", i) == better and labelled(batch, "rejected_", i) == worse
            )
        elif option == "kto":
            assert real(batch, "", i) == prompt + better and labelled(batch, "", i) == better
            assert bool(batch["label"][i]) == bool(records[row].desirable)
        else:  # the better ones first, then the worse
            assert (
                real(batch, "", i) == prompt + better and real(batch, "", 8 + i) == prompt + worse
            )
            if option == "dpo":
                assert labelled(batch, "", i) == better and labelled(batch, "", 8 + i) == worse
    assert all(
        trainer.processing_class.decode(expected(trainer.processing_class, r)[1]).endswith(
            "<|im_end|>"
        )
        for r in records
    )


def test_the_prompt_is_the_one_that_is_asked(config):
    class Engine:
        def generate(self, prompts, **_):
            self.prompts = prompts
            return []

    checked = config("train=dpo", SHORT)
    engine = Engine()
    method = get_method(checked)
    records = [hard("preference"), RECORDS["preference"](3)]
    with pytest.raises(ValueError, match="zip"):  # there are no answers
        ask("tuned", engine, method.tokenizer, checked, records, "Brief.")
    assert [row["prompt_ids"] for row in method.get_examples(records)] == engine.prompts


@pytest.mark.parametrize("option", OPTIONS)
def test_long_rows_are_neither_cut_nor_left_out(config, tmp_path, option):
    """TRL's own limit is 1,024 tokens."""
    long = {"role": "user", "content": "very " * 300}
    short = RECORDS[KIND[option]](1)
    judged = {"rejected": short.rejected, "desirable": short.desirable}
    records = [short, Record.of([long, short.messages[-1]], kind=KIND[option], **judged)]
    trainer = trainer_of(
        config, tmp_path, option, "train.args.per_device_train_batch_size=2", records=records
    )
    [batch] = list(trainer.get_train_dataloader())
    assert max(value.shape[1] for key, value in batch.items() if key.endswith("input_ids")) > 1500
    assert trainer.count_tokens(batch) > (1500 if option == "kto" else 3000)
    with pytest.raises(
        UserError,
        match=rf"1 training row\(s\) are longer than model.max_length=1000: {records[1].id}",
    ):
        trainer_of(config, tmp_path, option, "model.max_length=1000", records=records)


@pytest.mark.parametrize("overrides", [(), ("train.adapter=null",)])
@pytest.mark.parametrize("option", ["dpo", "kto"])
def test_the_reference_is_the_base_model_and_stays_it(
    config, tmp_path, monkeypatch, option, overrides
):
    monkeypatch.delattr(
        f"trl.trainer.{option}_trainer.create_model_from_path"
    )  # nothing is loaded anew, by its name
    trainer = trainer_of(config, tmp_path, option, *overrides)
    before = trainer.evaluate()
    assert before["eval_loss"] == pytest.approx({"dpo": math.log(2), "kto": 0.5}[option], abs=1e-6)
    assert before["eval_rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert (trainer.ref_model is None) == (not overrides)
    given = (
        {name: p.clone() for name, p in trainer.ref_model.named_parameters()} if overrides else {}
    )
    trainer.train()
    assert abs(trainer.evaluate()["eval_rewards/margins"]) > 1e-4
    assert (
        all(torch.equal(given[name], p) for name, p in trainer.ref_model.named_parameters())
        if overrides
        else True
    )


@pytest.mark.parametrize("overrides", [(), ("train.adapter=null",)])
def test_what_the_reference_says_can_be_computed_before(config, tmp_path, overrides):
    losses = []
    for more in ("true", "false"):
        trainer = trainer_of(
            config, tmp_path, "dpo", *overrides, f"+train.args.precompute_ref_log_probs={more}"
        )
        trainer.train()
        losses.append(trainer.evaluate()["eval_loss"])
        assert trainer.ref_model is None or more == "false"
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_the_kl_term_of_kto_has_the_mismatched_answers_of_its_own_batch(config, tmp_path):
    trainer = trainer_of(config, tmp_path, "kto")
    orders = []
    for epoch in range(2):
        trainer.get_train_dataloader()
        trainer.order.epoch = epoch
        batches = list(trainer.get_train_dataloader())
        trainer.order.epoch = epoch
        orders.append([row for batch in batches for row in batch["row"].tolist()])
        for batch in batches:
            answers = [labelled(batch, "", i) for i in range(8)]
            assert [labelled(batch, "KL_", i) for i in range(8)] == answers[-1:] + answers[:-1]
            for i, answer in enumerate(answers):
                prompt = real(batch, "", i)[: -len(answer)]
                assert real(batch, "KL_", i) == prompt + answers[i - 1]
    assert sorted(orders[0]) == list(range(24)) != orders[0]
    assert trainer.args.train_sampling_strategy == "random"


@pytest.mark.parametrize(
    ("wanted", "weight", "said"), [(12, 1, False), (6, 1, True), (6, 3.5, False), (24, 1, False)]
)
def test_unequal_numbers_of_wanted_and_unwanted_rows_are_said(
    config, tmp_path, caplog, wanted, weight, said
):
    records = [
        Record.of(RECORDS["chat"](n).messages, kind="unpaired", desirable=n < wanted, meta={})
        for n in range(24)
    ]
    trainer_of(
        config, tmp_path, "kto", f"train.args.desirable_weight={float(weight)}", records=records
    )
    text = (
        "6 wanted and 18 unwanted rows: train.args.desirable_weight should be between 3.0 and 4.0"
    )
    assert (text in caplog.text) == said


@pytest.mark.parametrize("option", ["reward-model", "dpo"])
def test_a_half_precision_base_keeps_what_is_trained_in_float32(config, tmp_path, option):
    trainer = trainer_of(config, tmp_path, option, "model.dtype=bfloat16")
    types = {name: p.dtype for name, p in trainer.model.named_parameters()}
    trained = {name for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert {types[name] for name in trained} == {torch.float32}
    assert any(type_ == get_dtype("bfloat16") for type_ in types.values())
    assert any("score" in name for name in trained) == (option == "reward-model")
    trainer.train()
    assert math.isfinite(trainer.evaluate()["eval_loss"])


def test_a_saved_reward_model_scores_as_the_trained_one(workspace, config):
    records = prepare(RECORDS["preference"])
    for overrides in ((), ("train.adapter=null",)):
        main(
            compose_config(
                *TINY, *FAST, "train=reward-model", "train.args.learning_rate=3e-2", *overrides
            )
        )
        method = get_method(config(*FAST, "train=reward-model", *overrides))
        model = get_tuned_model(method.base, "float32", TUNED, HEAD)
        assert (
            model.config.num_labels == 1
            and model.config.pad_token_id == method.tokenizer.pad_token_id
        )
        scores = []
        for row in method.get_examples(records["validation"]):
            better, worse = (
                model(torch.tensor([row[f"{name}_ids"]])).logits.item()
                for name in ("chosen", "rejected")
            )
            scores.append(better - worse)
        accuracy = sum(score > 0 for score in scores) / len(scores)
        numbers = read()[1]
        assert accuracy > 0.5 and accuracy == pytest.approx(numbers["eval_accuracy"])
        assert sum(scores) / len(scores) == pytest.approx(numbers["eval_margin"], rel=1e-3)


def numbers_of(numbers):
    """Without what TRL counts for itself, and a time."""
    return {
        key: value
        for key, value in numbers.items()
        if not key.endswith(("num_tokens", "preparation_time"))
    }


@pytest.mark.parametrize("option", OPTIONS)
def test_a_killed_run_ends_with_the_very_weights_and_numbers(workspace, monkeypatch, option):
    prepare(RECORDS[KIND[option]])
    overrides = (
        *TINY,
        *FAST,
        f"train={option}",
        "train.args.logging_steps=1",
        "train.checkpoint_minutes=0",
    )
    main(compose_config(*overrides))
    whole = read()
    (TUNED / "training.json").unlink()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, 4)
        main(compose_config(*overrides))
    main(compose_config(*overrides))
    same(*[(weights, numbers_of(numbers), curve) for weights, numbers, curve in (whole, read())])
    assert resumed() == [4]


def test_the_best_moment_can_be_chosen_by_answers(workspace, monkeypatch):
    prepare(RECORDS["preference"])
    answer = Validation.score
    scores = iter([0.1, 0.7, 0.3])  # before training, and after each of two epochs

    def score(self, trainer):
        assert answer(self, trainer).keys() == {self.name}
        return {self.name: next(scores)}

    monkeypatch.setattr(Validation, "score", score)
    main(
        compose_config(
            *TINY, *FAST, "train=dpo", "train.best.metric=chrf", "train.best.max_new_tokens=8"
        )
    )
    numbers = read()[1]
    assert numbers["eval_chrf"] == 0.7 and 2 * numbers["best_step"] == numbers["steps"]


@pytest.mark.parametrize("option", OPTIONS)
def test_no_limit_but_that_of_the_model_can_be_given(config, tmp_path, option):
    with pytest.raises(UserError, match=r"train\.args\.max_length: Tuneproof sets this argument"):
        trainer_of(config, tmp_path, option, "+train.args.max_length=64")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "+train.args.precompute_ref_log_probs=true",
            "train.args.precompute_ref_log_probs: Tuneproof sets this",
        ),
        ("+train.args.betta=1", "trl.KTOConfig rejects these arguments: .*betta"),
    ],
)
def test_arguments_that_cannot_be_given_are_named(workspace, override, said):
    prepare(RECORDS["unpaired"])
    with pytest.raises(SystemExit, match=said):
        main(compose_config(*TINY, *FAST, "train=kto", override))
