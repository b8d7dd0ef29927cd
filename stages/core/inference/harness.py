"""Known suites, asked of a model in memory by lm-evaluation-harness, which is an extra.

Prompts are the harness's own, without the chat template, so that the numbers are those that others publish.
"""

import difflib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.core.config.evaluate import HarnessConfig
from stages.core.errors import UserError
from stages.core.storage.files import sha256_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def ask_harness(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    settings: HarnessConfig,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Run the tasks; nothing is asked, and {} returned, where there are none.

    Returns:
        For each task or group: `version`, `items_sha256`, and under `metrics` by name its `value` and, where that is
        the mean over the items, its standard error `stderr` and the items' `scores`; both null otherwise (as of BLEU).

    Raises:
        UserError: the harness is not installed, knows no such task, or cannot get a task's data.
    """
    if not settings.tasks:
        return {}
    try:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ModuleNotFoundError as error:
        raise UserError(
            f"evaluate.harness.tasks needs lm-evaluation-harness ({error}): "
            "`pip install -c constraints.txt '.[harness]'`, or evaluate.harness.tasks=[]"
        ) from None
    logging.getLogger("lm_eval").setLevel(
        logging.ERROR
    )  # it warns that it got a model and not a name
    manager = TaskManager(include_path=settings.folder)
    _check_names(settings, manager.all_tasks)
    try:
        results = lm_eval.simple_evaluate(
            HFLM(pretrained=model, tokenizer=tokenizer, batch_size=settings.batch_size),
            tasks=settings.tasks,
            batch_size=settings.batch_size,
            limit=settings.limit,
            task_manager=manager,
            bootstrap_iters=0,  # intervals are ours, and paired
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
    except (OSError, ImportError) as error:  # no network, no such file, an extra of one task
        raise UserError(
            f"evaluate.harness.tasks: the harness could not prepare {settings.tasks}: {error}"
        ) from error
    return {name: _summarise(results, name) for name in _outermost(results)}


def _check_names(settings: HarnessConfig, known: Sequence[str]) -> None:
    names = set(known)
    for task in settings.tasks:
        if task not in names:
            close = difflib.get_close_matches(task, known, n=3)
            hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
            where = f" nor {settings.folder}" if settings.folder else ""
            raise UserError(
                f"evaluate.harness.tasks: neither the harness{where} has a task {task!r}{hint}"
            )


def _outermost(results: dict[str, Any]) -> list[str]:
    """Tasks and groups that belong to no other group."""
    inner = {child for children in results.get("group_subtasks", {}).values() for child in children}
    return [name for name in results["results"] if name not in inner]


def _leaves(results: dict[str, Any], name: str) -> list[str]:
    children = results.get("group_subtasks", {}).get(name)
    return [leaf for child in children for leaf in _leaves(results, child)] if children else [name]


def _summarise(results: dict[str, Any], name: str) -> dict[str, Any]:
    rows = [row for leaf in _leaves(results, name) for row in results["samples"][leaf]]
    metrics = {}
    for key, value in results["results"][
        name
    ].items():  # such as `acc,none` and `exact_match,strict-match`
        metric, _, filtered = key.partition(",")
        if filtered and not metric.endswith("_stderr"):
            scores = [row[metric] for row in rows if row["filter"] == filtered and metric in row]
            metrics[metric if filtered == "none" else key] = _summarise_metric(float(value), scores)
    return {
        "version": results["versions"].get(name),
        "items_sha256": sha256_json([row["doc_hash"] for row in rows]),
        "metrics": metrics,
    }


def _summarise_metric(value: float, scores: list[Any]) -> dict[str, Any]:
    if not all(isinstance(score, (int, float, np.number, np.bool_)) for score in scores):
        return {"value": value, "stderr": None, "scores": None}
    found = np.array(scores, dtype=float)
    if not len(found) or not np.isclose(found.mean(), value):
        return {"value": value, "stderr": None, "scores": None}
    stderr = float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else None
    return {"value": value, "stderr": stderr, "scores": found.tolist()}
