"""Training that starts from an adapter: its loss at step 0, its reference, what does not fit."""

import json
import math
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from safetensors.torch import load_file, save_file

from stages.core.config.schema import parse
from stages.core.errors import UserError
from stages.core.models.adapters import get_init_adapter
from stages.core.models.loading import TUNED
from stages.core.models.measured import hash_measured
from stages.core.tracking.tracker import Tracker
from stages.train.__main__ import main
from stages.train.build_trainer import get_trainer
from stages.train.methods import get_method
from stages.train.monitoring.checkpoints import training_fingerprint
from tests.conftest import TINY, compose_config, entered
from tests.train.monitoring.test_resume import Killed, read, resumed, same, stop_at
from tests.train.test_every_option import FAST, RECORDS, label, prepare

START = "train.init_adapter.source=models/start"
LABELS = "train.init_adapter.source=models/labels"
ONE_EPOCH = "train.args.num_train_epochs=1"
ADAPTER = "train.adapter={r: 4, target_modules: all-linear}"
CLASSIFIER = ("train=sequence-classification", ADAPTER)


def train(*overrides):
    main(compose_config(*TINY, *FAST, *overrides))
    return json.loads(Path("metrics/train.json").read_text())


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with two adapters of earlier runs, and their final validation losses."""
    with entered(tmp_path_factory.mktemp("start")):
        prepare(RECORDS["chat"])
        losses = {"start": train()["eval_loss"]}
        shutil.move(TUNED, "models/start")
        prepare(label)
        losses["labels"] = train(*CLASSIFIER)["eval_loss"]
        shutil.move(TUNED, "models/labels")
        yield Path.cwd(), losses


@pytest.fixture
def losses(workshop, monkeypatch):
    monkeypatch.chdir(workshop[0])
    shutil.rmtree(TUNED, ignore_errors=True)
    return workshop[1]


def composed(*overrides):
    return parse(compose_config(*TINY, *FAST, *overrides))


def trainer_of(tmp_path, *overrides, make=RECORDS["chat"]):
    config = composed(*overrides)
    rows = [make(n) for n in range(8)]
    return get_trainer(get_method(config), rows, rows, Tracker(config, None), str(tmp_path / "c"))


def test_it_begins_with_the_loss_of_the_adapter_and_records_its_hash(losses):
    prepare(RECORDS["chat"])
    numbers = train(START, ONE_EPOCH)
    assert numbers["eval_loss_before_training"] == pytest.approx(losses["start"], abs=1e-6)
    assert numbers["eval_loss"] < numbers["eval_loss_before_training"]
    facts = json.loads((TUNED / "training.json").read_text())["init_adapter"]
    assert facts["source"] == "models/start" and len(facts["sha256"]) == 64
    assert "models/tuned/training.json" in hash_measured(composed(START))
    start, now = (load_file(f / "adapter_model.safetensors") for f in (Path("models/start"), TUNED))
    assert start.keys() == now.keys()
    assert json.loads((TUNED / "adapter_config.json").read_text())["r"] == 16


def test_a_head_begins_with_its_own_weights(losses):
    prepare(label)
    numbers = train(*CLASSIFIER, LABELS, ONE_EPOCH)
    assert numbers["eval_loss_before_training"] == pytest.approx(losses["labels"], abs=1e-6)


def test_a_reward_model_begins_with_a_tuned_body_and_a_new_head(losses, tmp_path):
    trainer = trainer_of(tmp_path, "train=reward-model", START, make=RECORDS["preference"])
    given = load_file("models/start/adapter_model.safetensors")
    found = {
        name.replace(".default", ""): p.detach() for name, p in trainer.model.named_parameters()
    }
    assert all((found[name] == weight).all() for name, weight in given.items())


def test_the_reference_is_the_start_and_a_killed_run_goes_on(losses, monkeypatch):
    prepare(RECORDS["preference"])
    more = ("train.args.logging_steps=1", "train.checkpoint_minutes=0")
    given = ("train=dpo", START, ONE_EPOCH, *more)
    numbers = train(*given)
    assert numbers["eval_loss_before_training"] == pytest.approx(math.log(2), abs=1e-6)
    assert numbers["eval_loss"] < math.log(2) - 1e-3
    assert not [path for path in TUNED.rglob("*") if path.is_dir()]  # the reference is not saved
    one = json.loads((TUNED / "training.json").read_text())["numbers"]["trained_parameters"]
    assert one == sum(p.numel() for p in load_file(TUNED / "adapter_model.safetensors").values())
    whole = read()
    (TUNED / "training.json").unlink()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, 2)
        train(*given)
    train(*given)
    same(whole, read())
    assert resumed() == [2]


def test_no_run_resumes_from_another_start(losses):
    config = composed(START)
    base = get_method(config).base
    before = training_fingerprint(config, base, 42)
    assert training_fingerprint(composed(), base, 42) != before
    shutil.copytree("models/start", "models/changed", dirs_exist_ok=True)
    weights = load_file("models/start/adapter_model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, "models/changed/adapter_model.safetensors")
    kept = Path("models/start").rename("models/kept")
    try:
        Path("models/changed").rename("models/start")
        assert training_fingerprint(config, base, 42) != before
    finally:
        shutil.rmtree("models/start")
        kept.rename("models/start")


def test_an_adapter_on_the_hub_is_named_by_its_commit(losses, tmp_path, monkeypatch):
    def fetch(source, revision, allow_patterns):
        assert (source, revision) == ("owner/adapter", "main")
        return shutil.copytree("models/start", tmp_path / ("a" * 40), dirs_exist_ok=True)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    hub = ("train.init_adapter.source=owner/adapter", "train.init_adapter.revision=main")
    trainer_of(tmp_path, *hub)
    assert get_init_adapter(composed(*hub).train.init_adapter).revision == "a" * 40
    assert composed(*hub).train.init_adapter.dvc_dependency == "SECURITY.md"
    assert composed(START).train.init_adapter.dvc_dependency == "models/start"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([START, "train.adapter.r=8"], r"the adapter needs train.adapter.r=16 \(not 8\)"),
        ([START, "train=dora"], r"train.adapter.use_dora=False \(not True\)"),
        (
            [START, "train.adapter.target_modules=[q_proj]"],
            "weights that train.adapter lacks: .*23",
        ),
        ([START, "seed=7"], "trained on tiny-random, whose weights are not those"),
        (["train.init_adapter.source=owner/none"], "'owner/none': it is no folder here, and"),
        (["train.init_adapter.source=data"], "it has no adapter_config.json"),
        ([START, "train.init_adapter.source=models/tuned"], "source: this folder is an output"),
        ([START, "train=full"], "without an adapter every weight is trained"),
        ([START, "+train.adapter.init_lora_weights=pissa"], "init_lora_weights: the weights come"),
        ([START, "train=dpo", "+train.args.precompute_ref_log_probs=true"], "precompute_ref"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(losses, tmp_path, overrides, said):
    with pytest.raises(UserError, match=said):
        trainer_of(tmp_path, *overrides)


def test_a_head_with_other_labels_is_refused(losses, tmp_path):
    def other(n):
        row = label(n)
        return type(row).of([*row.messages[:-1], {"role": "assistant", "content": "ab"[n % 2]}])

    with pytest.raises(UserError, match=r"head has the labels plain, very, but .* have a, b"):
        trainer_of(tmp_path, *CLASSIFIER, LABELS, make=other)
