"""The front matter of a model card, as the Hugging Face hub reads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core.config.data import HubDataSource
from stages.core.config.model import HubSource
from stages.core.models.candidates import Candidate
from stages.core.models.classifier import TASKS


def add_front_matter(card: str, candidate: Candidate, report: Mapping[str, Any]) -> str:
    """Put the metadata of the hub in front of a model card.

    They are the base model, the task and every metric of the model with its interval. The SHA-256 of
    the test split is in `dataset_args`, so that two cards are about the same rows if it is the same.

    Args:
        card: The Markdown of `stages.register.card.render_card`.
        candidate: The model.
        report: The content of `reports/verdict.json`.
    """
    from huggingface_hub import ModelCardData

    config = candidate.config
    task = TASKS.get(config.train.method, "text-generation")
    metadata = ModelCardData(
        model_name=config.register_.name,
        base_model=_get_hub_id(config.model.source),
        datasets=_get_hub_id(config.data.source),
        library_name="transformers",
        pipeline_tag=task,
        metrics=[report["primary_metric"]],
        tags=["tuneproof", config.train.method],
        eval_results=_list_results(candidate, report, task),
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n{card}"


def _get_hub_id(source: Any) -> str | None:
    """Return the id of a model or a data set that the hub has, so that it links to it."""
    local = not isinstance(source, HubSource | HubDataSource) or Path(source.id).exists()
    return None if local else source.id


def _list_results(candidate: Candidate, report: Mapping[str, Any], task: str) -> list[Any]:
    """Return an `EvalResult` for each metric of the model, the primary metric first."""
    from huggingface_hub import EvalResult

    config = candidate.config
    split = report["split"]
    numbers = report["arms"][candidate.name]
    names = [
        name for name, found in numbers.items() if isinstance(found, Mapping) and "value" in found
    ]
    names.sort(key=lambda name: name != report["primary_metric"])
    return [
        EvalResult(
            task_type=task,
            dataset_type=config.data.name,
            dataset_name=config.data.name,
            dataset_split=split,
            dataset_args={"sha256": report["lineage"]["data_sha256"][split]},
            metric_type=name,
            metric_value=numbers[name]["value"],
            metric_args={
                "confidence": report["confidence"],
                "ci_low": numbers[name]["ci_low"],
                "ci_high": numbers[name]["ci_high"],
            },
        )
        for name in names
    ]
