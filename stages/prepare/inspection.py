"""Inspect the final splits: token counts, near-duplicates and leaks between splits."""

import time
from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from stages.core.config.schema import Config
from stages.core.data.records import Record
from stages.prepare.findings import Findings
from stages.prepare.preview import Preview
from stages.prepare.similarity.comparison import Comparison
from stages.prepare.similarity.leaks import count_leaks, report_pairs
from stages.prepare.splits import ORDER, SplitFiles
from stages.prepare.tokens import TokenCheck

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Inspection(NamedTuple):
    """The results of the inspection."""

    tokens: TokenCheck
    preview: Preview
    leaks: tuple[int, int]
    """The number of held-out rows, and how many of them leak, see `stages.core.data.leaks`."""
    seconds: float


def inspect(
    config: Config,
    tokenizer: "PreTrainedTokenizerBase",
    files: SplitFiles,
    comparison: Comparison,
    findings: Findings,
    ends: Collection[int],
) -> Inspection:
    """Check every record, report findings, and drop or truncate records as configured.

    `ends` are the end tokens of the model's generation settings.
    """
    from tqdm import tqdm

    started = time.perf_counter()
    tokens = TokenCheck(config, tokenizer, ends)
    preview = Preview(config, tokenizer)
    dropped: dict[str, set[int]] = defaultdict(set)
    replaced: dict[str, dict[int, Record]] = defaultdict(dict)
    with tqdm(
        total=sum(files.counts.values()), desc="tokens", unit="row", delay=2, mininterval=1
    ) as bar:
        for split in ORDER:
            row = 0
            for batch in files.batches(split):
                places = [files.place(split, row + i) for i in range(len(batch))]
                for record, (kept, found) in zip(
                    batch, tokens.look(split, batch, places), strict=True
                ):
                    uncut = (
                        kept is None
                        and found[-1].code == "too_long"
                        and config.checks.too_long == "truncate"
                    )
                    if not findings.add(found, "drop" if uncut else None) or kept is None:
                        dropped[split].add(row)
                    elif kept is not record:
                        replaced[split][row] = kept
                    if kept:
                        preview.offer(split, record, kept)
                    row += 1
                bar.update(len(batch))
    similar = report_pairs(config, comparison.pairs, comparison.ids, files, findings)
    left_out = {split: dropped[split] | similar[split] for split in ORDER}
    leaks = count_leaks(comparison.pairs, files, left_out)
    for split in ORDER:
        tokens.counts[split].leave_out(left_out[split])
        files.change(split, left_out[split], replaced[split])
    return Inspection(tokens, preview, leaks, time.perf_counter() - started)
