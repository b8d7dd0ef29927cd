"""Find equal questions across given splits, and report near-duplicates and leaks.

Splits that Tuneproof draws have no equal questions in common. Given splits may, and then a model is
tested on what it has learnt, even if the answers are worded differently.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from stages.core.config.schema import Config
from stages.prepare.findings import Finding, Findings
from stages.prepare.similarity.near_duplicates import COMMON, COMMON_ROWS
from stages.prepare.similarity.pairs import Pairs
from stages.prepare.similarity.row_hashes import RowHashes
from stages.prepare.splits import ORDER, SplitFiles

INSTRUCTION_ROWS = 5
"""The smallest number of rows in a split whose common system message counts as an instruction."""
MIX = np.uint64(0x9E3779B97F4A7C15)  # an odd number, to combine two hashes
TRAIN = ORDER.index("train")


def find_equal_questions(hashes: RowHashes, splits: np.ndarray, given: np.ndarray) -> Pairs:
    """Pair rows of different splits whose questions are equal, if one of the splits is given.

    A question that more than a tenth of the rows ask is a template, and a system message that more
    than a tenth of the rows of a split have is an instruction. Neither is content.

    Args:
        hashes: The hashes of all rows.
        splits: The index in `ORDER` of the split of each row, shape (rows,).
        given: For each split in `ORDER` whether its rows were given to it, shape (splits,).

    Returns:
        Pairs in which each row that has such a twin occurs, without a similarity.
    """
    keys = hashes.questions * MIX + np.where(_is_instruction(hashes, splits), 0, hashes.systems)
    _, start, place, count = np.unique(
        keys, return_index=True, return_inverse=True, return_counts=True
    )
    end = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
    rows = np.flatnonzero(count[place] <= max(COMMON_ROWS, COMMON * len(keys)))
    first = np.concatenate([start[place[rows]], rows])
    second = np.concatenate([rows, end[place[rows]]])
    across = splits[first] != splits[second]
    across &= given[splits[first]] | given[splits[second]]
    return Pairs(first[across], second[across], np.zeros(across.sum()))


def _is_instruction(hashes: RowHashes, splits: np.ndarray) -> np.ndarray:
    """Tell for each row whether its system message is an instruction and not content."""
    found = np.zeros(len(splits), bool)
    for split in range(len(ORDER)):
        rows = np.flatnonzero(splits == split)
        _, place, count = np.unique(hashes.systems[rows], return_inverse=True, return_counts=True)
        found[rows] = count[place] > max(INSTRUCTION_ROWS, COMMON * len(rows))
    return found


def report_pairs(
    config: Config, pairs: Pairs, ids: np.ndarray, files: SplitFiles, findings: Findings
) -> dict[str, set[int]]:
    """Report near-duplicates within a split and leaks between splits.

    If the share of leaking held-out rows exceeds `checks.max_leak_fraction`, the leaks stop the
    stage.

    Args:
        config: The configuration of the run.
        pairs: The pairs of similar rows.
        ids: The ids of all records as numbers, shape (rows,).
        files: The splits.
        findings: Receives one finding for each row that is similar to an earlier one.

    Returns:
        The indices in each split of the rows to leave out.
    """
    splits = files.get_splits()
    across = splits[pairs.first] != splits[pairs.second]
    leaking = np.union1d(pairs.first[across], pairs.second[across])
    held_out = splits != TRAIN
    share = float(held_out[leaking].sum() / max(1, int(held_out.sum())))
    too_many = share > config.checks.max_leak_fraction
    dropped: dict[str, set[int]] = defaultdict(set)
    # A leak is worse than a near-duplicate. Of several pairs the most similar one is reported.
    order = np.lexsort((pairs.first, -pairs.similarity, ~across, pairs.second))
    for i in order[np.unique(pairs.second[order], return_index=True)[1]]:
        first = int(pairs.first[i])
        second = int(pairs.second[i])
        finding = _describe(files, first, second, float(pairs.similarity[i]), ids)
        if finding.code == "leak" and too_many:
            passed = findings.add([_refuse(finding, share, config)], "fail")
        else:
            passed = findings.add([finding])
        if not passed:
            split, row = files.find(second)
            dropped[split].add(row)
    return dropped


def count_leaks(
    pairs: Pairs, files: SplitFiles, left_out: Mapping[str, Collection[int]]
) -> tuple[int, int]:
    """Count the held-out rows that stay, and those of them that leak.

    Args:
        pairs: The pairs of similar rows.
        files: The splits, before rows are dropped from them.
        left_out: The indices in each split of the rows that are dropped.
    """
    splits = files.get_splits()
    stays = np.ones(len(splits), bool)
    start = 0
    for split in ORDER:
        stays[[start + row for row in left_out.get(split, ())]] = False
        start += files.counts[split]
    across = splits[pairs.first] != splits[pairs.second]
    across &= stays[pairs.first] & stays[pairs.second]
    leaking = np.union1d(pairs.first[across], pairs.second[across])
    held_out = (splits != TRAIN) & stays
    return int(held_out.sum()), int(held_out[leaking].sum())


def _describe(
    files: SplitFiles, first: int, second: int, similarity: float, ids: np.ndarray
) -> Finding:
    split, row = files.find(second)
    other_split, other_row = files.find(first)
    file, line = files.place(split, row)
    other_file, other_line = files.place(other_split, other_row)
    other = f"{other_file}:{other_line}" if other_file != file else f"line {other_line}"
    found = f"{similarity:.0%} similar to" if similarity else "the same question as"
    found = f"{found} {other}"
    record = f"{ids[second]:016x}"
    if split == other_split:
        code = "duplicate" if ids[first] == ids[second] else "near_duplicate"
        return Finding(code, file, line, "", f"{found}, both in {split}", "keep one", record)
    found = f"{found}, but this row is in {split} and that one in {other_split}"
    return Finding("leak", file, line, "", found, "keep both in one split, or keep one", record)


def _refuse(finding: Finding, share: float, config: Config) -> Finding:
    """Say why a leak stops the stage, and how it would not."""
    limit = config.checks.max_leak_fraction
    found = (
        f"{finding.found} ({share:.1%} of the held-out rows leak, "
        f"checks.max_leak_fraction={limit:.1%})"
    )
    todo = f"{finding.todo}, or use -S checks.max_leak_fraction=1 to drop this row instead"
    return replace(finding, found=found, todo=todo)
