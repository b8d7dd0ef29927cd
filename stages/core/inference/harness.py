"""Run public benchmark tasks on a loaded model with lm-evaluation-harness, an optional extra.

The prompts are the harness's own and do not use the chat template, so the scores are comparable
with published ones.
"""

import difflib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.core.config.evaluate import LmEvalConfig
from stages.core.errors import UserError
from stages.core.storage.files import sha256_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def ask_harness(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    settings: LmEvalConfig,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Run the tasks of `settings`; without tasks the model is not asked and the result is empty.

    Returns:
        For each task or group its `version`, its `items_sha256` and its `metrics`. Each metric has
        a `value`. If that is the mean over the items, it also has the standard error `stderr` and
        the `scores` of the items. Otherwise (BLEU, for example) both are None.

    Raises:
        UserError: The harness is not installed, does not know a task, or cannot get its data.
    """
    if not settings.tasks:
        return {}
    try:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ModuleNotFoundError as error:
        raise UserError(
            f"evaluate.lm_eval.tasks needs lm-evaluation-harness ({error}). Run "
            "`pip install -c constraints.txt --group lm-eval`, or set evaluate.lm_eval.tasks=[]"
        ) from None
    # The harness warns when it gets a model instead of a model name.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = TaskManager(include_path=settings.folder)
    _check_names(settings, manager.all_tasks)
    try:
        results = lm_eval.simple_evaluate(
            HFLM(pretrained=model, tokenizer=tokenizer, batch_size=settings.batch_size),
            tasks=settings.tasks,
            batch_size=settings.batch_size,
            limit=settings.limit,
            task_manager=manager,
            bootstrap_iters=0,  # this project computes its own paired intervals
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
    except (OSError, ImportError) as error:  # no network, missing file or missing extra
        raise UserError(
            f"evaluate.lm_eval.tasks: the harness could not prepare {settings.tasks}: {error}"
        ) from error
    return {name: _summarise(results, name) for name in _outermost(results)}


def _check_names(settings: LmEvalConfig, known: Sequence[str]) -> None:
    names = set(known)
    for task in settings.tasks:
        if task not in names:
            close = difflib.get_close_matches(task, known, n=3)
            hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
            where = f" or in {settings.folder}" if settings.folder else ""
            raise UserError(
                f"evaluate.lm_eval.tasks: no task in the harness{where} is named {task!r}{hint}"
            )


def _outermost(results: dict[str, Any]) -> list[str]:
    """List the tasks and groups that belong to no other group."""
    inner = {child for children in results.get("group_subtasks", {}).values() for child in children}
    return [name for name in results["results"] if name not in inner]


def _leaves(results: dict[str, Any], name: str) -> list[str]:
    children = results.get("group_subtasks", {}).get(name)
    return [leaf for child in children for leaf in _leaves(results, child)] if children else [name]


def _summarise(results: dict[str, Any], name: str) -> dict[str, Any]:
    rows = [row for leaf in _leaves(results, name) for row in results["samples"][leaf]]
    metrics = {}
    # Keys look like `acc,none` or `exact_match,strict-match`.
    for key, value in results["results"][name].items():
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
