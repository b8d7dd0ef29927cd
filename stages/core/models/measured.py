"""Hashes of everything that decides what was measured.

`evaluate` writes them to `reports/verdict.json`, and `register` compares them with what is there.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.core.config.arms import MODEL_FREE_ARMS, TUNED_ARM
from stages.core.config.schema import Config
from stages.core.data.predictions import CHOICES, GENERAL_BASE, PREDICTIONS, prompted_arms
from stages.core.data.records import PREPARED, SPLITS
from stages.core.environment.code import ROOT, get_digests
from stages.core.models.base_models import read_template
from stages.core.models.candidates import Candidate, tuned_candidates
from stages.core.storage.files import sha256_file, sha256_json

NOT_SERVED = ("training.json", "README.md")
"""Files in the folder of a model that describe it and do not change its answers."""


def hash_measured(config: Config) -> dict[str, str]:
    """Compute the SHA-256 of everything that decides the verdict on each tuned model.

    Returns:
        The hashes by the path of a file from the repository, for a file of code without its
        comments, and by the key of a setting.
    """
    metric = ROOT / "stages/core/metrics" / config.evaluate.primary_metric
    code = [
        *metric.rglob("*.py"),
        *metric.parent.glob("*.py"),
        *(ROOT / "stages/core/statistics").rglob("*.py"),
    ]
    return {
        **{path.as_posix(): sha256_file(path) for path in _list_files(config) if path.is_file()},
        **get_digests(sorted(code)),
        **{key: sha256_json(value) for key, value in _get_settings(config).items()},
    }


def hash_served(candidate: Candidate, lineage: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of what answers requests if a candidate is registered.

    These are the weights and their type, the tokenizer, the chat template, the base model and the
    prompt. Two models with the same hash give the same answers.

    Args:
        candidate: The candidate, whose first seed is registered.
        lineage: The lineage in `reports/verdict.json`.
    """
    measured = lineage["measured_sha256"]
    folder = candidate.get_folder()
    files = {
        path.name: measured[path.as_posix()]
        for path in _list_model_files(folder)
        if path.parent == folder and path.name not in NOT_SERVED and path.suffix != ".jsonl"
    }
    config = candidate.config
    asked = [config.train.method, *(measured[key] for key in _get_asked(config))]
    base = candidate.read_training()["base_model"]
    return sha256_json([files, asked, lineage["dtype"], base["sha256"], base["revision"]])


def _list_files(config: Config) -> Iterator[Path]:
    """List the splits, the answers of all arms, and the files of every tuned model."""
    yield from (PREPARED / f"{split}.jsonl" for split in SPLITS)
    yield from (PREDICTIONS / f"{arm}.jsonl" for arm in (*MODEL_FREE_ARMS, *prompted_arms(config)))
    yield from (CHOICES, GENERAL_BASE)
    for candidate in tuned_candidates(config):
        yield from (candidate.get_predictions_file(seed) for seed in candidate.seeds)
        yield candidate.general
        yield from _list_model_files(candidate.get_folder())


def _list_model_files(folder: Path) -> list[Path]:
    """List the files of a candidate's models of all seeds, without hidden ones."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if not path.name.startswith("."))


def _get_settings(config: Config) -> dict[str, Any]:
    """Get the settings that decide the answers, their scores and the verdict."""
    evaluate = config.evaluate
    found = {
        "seed": config.seed,
        **_get_asked(config),
        "model.source": config.model.source.model_dump(),
        "engine.kind": config.engine.kind,
        "checks.min_test_rows": config.checks.min_test_rows,
        "evaluate.split": evaluate.split,
        "evaluate.primary_metric": evaluate.primary_metric,
        "evaluate.options": evaluate.options.get(evaluate.primary_metric, {}),
        "evaluate.confidence": evaluate.confidence,
        "evaluate.margin": evaluate.margin,
        "evaluate.min_useful_value": evaluate.min_useful_value,
        "evaluate.cut_answers": evaluate.cut_answers,
    }
    for candidate in tuned_candidates(config):
        section = "train" if candidate.name == TUNED_ARM else f"rivals.{candidate.name}"
        train = candidate.config.train
        encoder = train.encoder.model_dump() if train.encoder else None
        found |= {
            f"{section}.method": train.method,
            f"{section}.encoder": encoder,
            f"{section}.seeds": train.seeds,
        }
    return found


def _get_asked(config: Config) -> dict[str, Any]:
    """Get the settings with which a tuned model is asked."""
    return {
        "prompt.tuned_system_prompt": config.prompt.tuned_system_prompt,
        "prompt.max_new_tokens": config.prompt.max_new_tokens,
        "model.max_length": config.model.max_length,
        "model.dtype": config.model.dtype,
        "model.chat_template": read_template(config.model),
        "model.chat_template_kwargs": config.model.chat_template_kwargs,
    }
