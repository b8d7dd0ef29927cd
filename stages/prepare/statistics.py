"""Compute distributions of the data, and OpenAI's estimate of epochs and billed tokens."""

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.core.data.prompts import Example
from stages.core.data.records import Record
from stages.core.planning.auto import cookbook_epochs


class Counts:
    """Holds the counts of every record of a split, in 14 bytes per record."""

    def __init__(self) -> None:
        self._arrays = {name: array("I") for name in ("messages", "tokens", "trained_tokens")}
        self._arrays |= {name: array("B") for name in ("without_system", "without_user")}

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._arrays["tokens"])

    def add(self, record: Record, example: Example) -> None:
        """Add the counts of the next record."""
        roles = {message["role"] for message in record.messages}
        values = (
            len(record.messages),
            len(example.ids),
            sum(example.trained),
            "system" not in roles,
            "user" not in roles,
        )
        for counts, value in zip(self._arrays.values(), values, strict=True):
            counts.append(value)

    def leave_out(self, rows: set[int]) -> None:
        """Remove the records at these indices."""
        for name, counts in self._arrays.items():
            kept = (value for i, value in enumerate(counts) if i not in rows)
            self._arrays[name] = array(counts.typecode, kept) if rows else counts

    def column(self, name: str) -> np.ndarray:
        """Return one of the counts for all records."""
        return np.array(self._arrays[name], dtype=np.int64)


def describe_tokens(
    counts: Mapping[str, Counts], limit: int, over_limit: int, truncated: int
) -> dict[str, Any]:
    """Summarise the data for a person who is about to train.

    Args:
        counts: The counts of each split.
        limit: The number of tokens that a row may have. OpenAI bills at most this many per row.
        over_limit: The number of rows that were longer.
        truncated: The number of those rows that were truncated.
    """

    def column(name: str) -> np.ndarray:
        return np.concatenate([of_split.column(name) for of_split in counts.values()])

    rows = sum(map(len, counts.values()))
    epochs = cookbook_epochs(rows)
    billed = int(np.minimum(column("tokens"), limit).sum())
    return {
        **{name: distribution(column(name)) for name in ("messages", "tokens", "trained_tokens")},
        "without_system": int(column("without_system").sum()),
        "without_user": int(column("without_user").sum()),
        "over_limit": over_limit,
        "truncated": truncated,
        "cookbook": {
            "epochs": epochs,
            "billed_tokens_per_epoch": billed,
            "billed_tokens": epochs * billed,
        },
    }


def distribution(values: np.ndarray) -> dict[str, float]:
    """Compute the sum, minimum, maximum, mean, median and the 5th and 95th percentiles."""
    if not len(values):
        return {}
    p5, median, p95 = np.quantile(values, [0.05, 0.5, 0.95]).tolist()
    ends = {"min": int(values.min()), "max": int(values.max())}
    return {
        "sum": int(values.sum()),
        **ends,
        "mean": float(values.mean()),
        "median": median,
        "p5": p5,
        "p95": p95,
    }


def table(statistics: dict[str, Any]) -> str:
    """Format the statistics as a table for a terminal."""
    lines = [f"{'':<16}{'min':>8}{'p5':>8}{'median':>8}{'mean':>10}{'p95':>8}{'max':>8}{'sum':>14}"]
    for name in ("messages", "tokens", "trained_tokens"):
        if d := statistics[name]:
            lines.append(
                f"{name.replace('_', ' '):<16}{d['min']:>8,}{d['p5']:>8,.0f}"
                f"{d['median']:>8,.0f}{d['mean']:>10,.1f}"
                f"{d['p95']:>8,.0f}{d['max']:>8,}{d['sum']:>14,}"
            )
    openai = statistics["cookbook"]
    lines.append(
        f"Rows without a system message: {statistics['without_system']:,}. "
        f"Rows without a user message: {statistics['without_user']:,}. "
        f"Rows over the token limit: {statistics['over_limit']:,}. "
        f"Truncated rows: {statistics['truncated']:,}. "
        f"OpenAI would train for {openai['epochs']} epochs and "
        f"bill {openai['billed_tokens']:,} tokens of this tokenizer."
    )
    return "\n".join(lines)
