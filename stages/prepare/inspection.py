"""Inspect all splits in a second pass: token counts, near-duplicates and leaks between splits."""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from stages.core.config.schema import Config
from stages.core.data.records import Record
from stages.prepare.findings import Finding, Findings
from stages.prepare.near_duplicates import ORDER, NearDuplicates, Pair
from stages.prepare.preview import Preview
from stages.prepare.splits import SplitFiles
from stages.prepare.tokens import TokenCheck

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Inspection(NamedTuple):
    """The results of the second pass."""

    tokens: TokenCheck
    preview: Preview
    seconds: dict[str, float]
    """The seconds under `tokens` (tokens and signatures) and `near_duplicates` (the search)."""


def inspect(
    config: Config, tokenizer: "PreTrainedTokenizerBase", files: SplitFiles, findings: Findings
) -> Inspection:
    """Check every record, report findings, and drop or truncate records as configured."""
    from tqdm import tqdm

    started = time.perf_counter()
    tokens = TokenCheck(config, tokenizer)
    preview = Preview(config, tokenizer)
    near = NearDuplicates(config.checks.near_duplicate_threshold, config.seed, files)
    dropped: dict[str, set[int]] = defaultdict(set)
    replaced: dict[str, dict[int, Record]] = defaultdict(dict)
    with tqdm(
        total=sum(files.counts.values()), desc="tokens", unit="row", delay=2, mininterval=1
    ) as bar:
        for split in ORDER:
            row = 0
            for batch in files.batches(split):
                near.add(batch)
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
    looked = time.perf_counter()
    _report_pairs(config, near.find(), files, dropped, findings)
    seconds = {"tokens": looked - started, "near_duplicates": time.perf_counter() - looked}
    for split in ORDER:
        tokens.counts[split].leave_out(dropped[split])
        files.change(split, dropped[split], replaced[split])
    return Inspection(tokens, preview, seconds)


def _report_pairs(
    config: Config,
    pairs: Sequence[Pair],
    files: SplitFiles,
    dropped: dict[str, set[int]],
    findings: Findings,
) -> None:
    """Report near-duplicates within a split and leaks between splits.

    If the share of leaking held-out rows exceeds `checks.max_leak_fraction`, the leaks stop the
    stage."""
    checks = config.checks
    counts = files.counts
    leaks = [pair for pair in pairs if pair.first[0] != pair.second[0]]
    leaked = {row for pair in leaks for row in (pair.first, pair.second) if row[0] != "train"}
    share = len(leaked) / max(counts["validation"] + counts["test"], 1)
    too_many = share > checks.max_leak_fraction
    for pair in pairs:
        (first_file, first_line) = files.place(*pair.first)
        (file, line) = files.place(*pair.second)
        other = f"{first_file}:{first_line}" if first_file != file else f"line {first_line}"
        found = f"{pair.similarity:.0%} similar to {other}"
        if pair.first[0] == pair.second[0]:
            found = f"{found}, both in {pair.first[0]}"
            finding = Finding("near_duplicate", file, line, "", found, "keep one", pair.record)
            passed = findings.add([finding])
        else:
            todo = "keep both in one split by setting data.group_column to a column that they share"
            found = f"{found}, but this row is in {pair.second[0]} and that one in {pair.first[0]}"
            if too_many:
                found += (
                    f" ({share:.1%} of the held-out rows leak, "
                    f"checks.max_leak_fraction={checks.max_leak_fraction:.1%})"
                )
                todo += ", or raise checks.max_leak_fraction to drop this row instead"
            finding = Finding("leak", file, line, "", found, todo, pair.record)
            passed = findings.add([finding], "fail" if too_many else None)
        if not passed:
            dropped[pair.second[0]].add(pair.second[1])
