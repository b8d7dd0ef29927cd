from pathlib import Path

import pytest
from omegaconf import OmegaConf

from stages.core.config.schema import parse
from stages.core.errors import UserError
from tests.conftest import ROOT, compose_config

CONF = ROOT / "conf"
OPTIONS = [
    f"{path.parent.relative_to(CONF)}={path.stem}"
    for path in sorted(CONF.rglob("*.yaml"))
    if path.parent not in (CONF, CONF / "base", CONF / "data" / "base")
]
REQUIRED = {
    "data=chat-jsonl": ["data.source.path=x.jsonl"],
    "data=remote": ["data.source.path=s3://bucket/x.jsonl"],
    "data=hub": ["data.source.id=org/name"],
    "model=hub": ["model.source.id=org/name"],
    "prompt/remote=openai": ["prompt.remote.model=name"],
    "prompt/remote=local-server": ["prompt.remote.model=name"],
    "train=distill": ["prompt/remote=local-server", "prompt.remote.model=name"],
    "train=distill-on-policy": ["train.teacher_model.source=org/name"],
    "train/encoder=hub": ["train=sequence-classification", "train.encoder.source.id=org/name"],
    "train/encoder=minilm": ["train=sequence-classification"],
    "train/encoder=tiny-random": ["train=token-classification"],
    "evaluate=judged": ["evaluate.options.judge.model=name"],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_is_sound(option):
    assert parse(compose_config(option, *REQUIRED.get(option, [])))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_says_on_top_what_it_is(option):
    group, name = option.split("=")
    lines = (ROOT / "conf" / group / f"{name}.yaml").read_text().splitlines()
    comment = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert comment.startswith("# ") and len(comment) > 10
    if group == "experiment":
        assert comment.startswith("# dvc exp run")


def test_params_yaml_is_the_composition_of_conf():
    composed = compose_config()
    OmegaConf.resolve(composed)
    assert OmegaConf.load(ROOT / "params.yaml") == composed, (
        "run `dvc exp run` and commit params.yaml"
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=-1", "seed: should be greater than or equal to 0, got -1"),
        ("seed=many", "seed: should be a valid integer, got 'many'"),
        ("evaluate.confidence=1.5", "evaluate.confidence: should be less than 1, got 1.5"),
        (
            "data.split.test=0.95",
            "data.split: validation and test together must leave rows for training",
        ),
        (
            "evaluate.primary_metric=rouge",
            "evaluate: primary_metric 'rouge' must be one of metrics",
        ),
        (
            "+train.micro_batch_token=3",
            "train.micro_batch_token: unknown key; did you mean 'micro_batch_tokens'?",
        ),
        ("~train.args", "train.args: this key is missing"),
        ("model.source.kind=whee", "model.source: "),
        ("data.source.sha256=abc", "data.source.sha256: "),
        (
            "evaluate.metrics=[accuracy,entity_f1,perplexity]",
            "evaluate: the metric perplexity needs evaluate.target_loglikelihood=true",
        ),
        ("prompt.remote={base_url: ftp://x}", "prompt.remote.base_url: "),
        ("register.gate.purpose=any", "register.gate.purpose: should be 'one-task' or 'assistant'"),
        ("train.seeds=[-1]", "train.seeds.0: should be greater than or equal to 0, got -1"),
        (
            "+rivals={few_shot: ${train}}",
            "rivals.few_shot: an arm already has this name; choose another name",
        ),
        (
            "+rivals={a/b: ${train}}",
            "rivals.a/b: the name of a rival may contain only letters, digits, _ and -",
        ),
        ("candidate=tagger", "candidate: there is no rival 'tagger'; use one of tuned"),
    ],
)
def test_a_bad_value_is_named_with_its_whole_key(override, said):
    with pytest.raises(UserError) as error:
        parse(compose_config(override))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("sha256", "abc", "model.source.sha256: "),
        ("parts", [], "model.source.parts: "),
        ("parts[1].sha256", "abc", "model.source.parts.1.sha256: "),
        ("parts[1].member", "data/", "model.source.parts: data/: this is a folder"),
    ],
)
def test_a_bad_part_of_a_model_is_named_with_its_whole_key(key, value, said):
    composed = compose_config("model=gemma-3-270m")
    OmegaConf.update(composed, f"model.source.{key}", value)
    with pytest.raises(UserError) as error:
        parse(composed)
    assert said in str(error.value)


@pytest.mark.parametrize("alias", ["latest", "LATEST", "v12", "V1"])
def test_an_alias_that_mlflow_reserves_is_refused(alias):
    with pytest.raises(UserError, match=rf"register: alias '{alias}' is reserved by MLflow"):
        parse(compose_config(f"register.alias={alias}"))


NAMES = [
    *("", " ", "a/b", "a:b", "a.b", "a%b", "a@b", "a?b", "a#b", "a'b", 'a"b', "a`b", "a$b", "a\\b"),
    *("a\nb", "a\tb", " a", "a ", ".", "..", "x" * 257, "a\u202eb", "a;b"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["name", "alias"])
def test_a_name_that_mlflow_or_its_addresses_refuse_is_refused(key, name):
    composed = compose_config()
    composed.register[key] = name
    with pytest.raises(UserError, match=rf"register(\.{key}: |: {key} )"):
        parse(composed)


@pytest.mark.parametrize(
    "name", ["tuneproof-food", "v1a", "Größe 2", "模型", "v", "latest-1", "x" * 200]
)
def test_a_name_that_is_accepted_is_one_for_mlflow_too(name):
    from mlflow.store.artifact.utils.models import _parse_model_uri
    from mlflow.utils import validation

    composed = compose_config()
    composed.register.name = name
    composed.register.alias = name.replace(" ", "-")
    settings = parse(composed).register_
    validation._validate_model_name(settings.name)
    validation._validate_logged_model_name(settings.name)
    validation._validate_model_alias_name(settings.alias)
    validation._validate_model_alias_name_reserved(settings.alias)
    found = _parse_model_uri(f"models:/{settings.name}@{settings.alias}")
    assert (found.name, found.alias) == (settings.name, settings.alias)


@pytest.mark.parametrize("value", [".nan", ".inf"])
@pytest.mark.parametrize(
    "key", ["register.gate.min_primary_metric", "evaluate.margin", "evaluate.min_useful_value"]
)
def test_a_bound_must_be_a_finite_number(key, value):
    with pytest.raises(UserError, match=rf"{key}: should be a finite number|{key}: .*less than"):
        parse(compose_config(f"{key}={value[1:]}"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "rivals.tagger.micro_batch_tokens=3",
            "rivals.tagger.micro_batch_tokens: should be auto or a whole number of at least 16, got 3",
        ),
        ("+rivals.tagger.arg=3", "rivals.tagger.arg: unknown key; did you mean 'args'?"),
        (
            "rivals.tagger.method=sft",
            "rivals.tagger.encoder: method sft trains `model`; choose train/encoder=none",
        ),
        (
            "rivals.tagger.quantization={load_in_4bit: true}",
            "rivals.tagger.quantization: needs an adapter",
        ),
        (
            "rivals.tagger.record_types=[text]",
            "rivals.tagger.record_types: a rival learns from the same rows as the tuned model",
        ),
        (
            "evaluate.target_loglikelihood=true",
            "evaluate.target_loglikelihood: rivals.tagger.method=token-classification trains a "
            "classifier, which has no likelihood",
        ),
    ],
)
def test_a_rival_is_checked_as_train_is(override, said):
    with pytest.raises(UserError) as error:
        parse(compose_config("rivals=encoder-tagger", override))
    assert said in str(error.value)


def test_a_judge_is_no_rival():
    with pytest.raises(
        UserError,
        match=r"rivals.full.method: reward-model trains a judge, which answers no prompts",
    ):
        parse(compose_config("rivals=full", "rivals.full.method=reward-model"))


def test_several_rivals_are_chosen_at_once_and_watched_for():
    config = parse(
        compose_config("rivals=[encoder-tagger,full]", "rivals.full.best.metric=exact_match")
    )
    assert list(config.rivals) == ["tagger", "full"] and config.rivals_dependency == "models/rivals"
    assert config.rivals["tagger"].encoder.name == "all-minilm-l6-v2"
    assert (
        config.rivals["full"].dvc_dependency == "stages/core/metrics" != config.train.dvc_dependency
    )


def test_all_problems_come_in_one_message():
    with pytest.raises(UserError, match=r"has 2 problem\(s\)") as error:
        parse(compose_config("seed=-1", "evaluate.confidence=2"))
    assert "seed:" in str(error.value) and "evaluate.confidence:" in str(error.value)


def test_a_group_given_as_a_string_is_caught():
    cfg = OmegaConf.load(ROOT / "params.yaml")
    cfg.model = "hub"  # what `-cn params model=hub` makes of it, silently
    with pytest.raises(UserError, match="model: "):
        parse(cfg)


def test_a_value_that_has_to_be_given_is_asked_for():
    with pytest.raises(UserError, match=r"data\.source\.path"):
        parse(compose_config("data=chat-jsonl"))


def test_the_digest_sees_an_edit_and_a_new_file(tmp_path: Path):
    from stages.core.config.hydra_plugins.conf_digest import conf_digest

    (tmp_path / "a.yaml").write_text("x: 1")
    first = conf_digest(tmp_path)
    (tmp_path / "b.yaml").write_text("x: 1")
    second = conf_digest(tmp_path)
    (tmp_path / "b.yaml").write_text("x: 2")
    assert len({first, second, conf_digest(tmp_path)}) == 3
