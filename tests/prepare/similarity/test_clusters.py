import json
import random
from collections import Counter

import numpy as np
import pytest

from stages.core.data.records import SPLITS, read_records
from stages.prepare.__main__ import main
from stages.prepare.reading import Placed
from stages.prepare.similarity.comparison import compare_rows
from stages.prepare.splits import SplitFiles
from tests.conftest import TINY, chat, compose_config
from tests.prepare.rows import write

WORDS = [f"{start}{end}" for start in "bdfgklmprst" for end in ("an", "er", "ist", "olk", "um")]


def make_log(rows, messages, seed=7):
    """Make labelled log lines of few messages in which the time and one value vary."""
    draws = random.Random(seed)
    texts = [draws.choices(WORDS, k=30) for _ in range(messages)]
    lines = []
    for n in range(rows):
        message = draws.randrange(messages)
        words = [*texts[message][:-1], f"value={draws.randint(1, 500)}"]
        lines.append({"text": f"{n:06} {' '.join(words)}", "label": "ab"[message % 2]})
    return lines


def split_of(records):
    return {record.id: split for split in SPLITS for record in records[split]}


class Compared:
    """Splits before and after near-duplicates were put together."""

    def __init__(self, config, folder, placed, drawn=SPLITS):
        self.files = SplitFiles(folder)
        self.files.write(
            Placed(record, split, "rows", line)
            for line, (split, record) in enumerate(placed, start=1)
        )
        self.before = split_of(self.records())
        self.result = compare_rows(config, self.files, drawn)
        self.after = split_of(self.records())
        self.numbers = self.result.clusters.numbers

    def records(self):
        return {s: [r for batch in self.files.batches(s) for r in batch] for s in SPLITS}


def near(word, answer="a", **meta):
    """Make a row that is near to all rows that differ in one word."""
    text = " ".join(f"word{n}" for n in range(40))
    record = chat(f"{text} {word}", answer)
    record.meta.update(meta)
    return record


def far(n):
    draws = random.Random(n)
    return chat(" ".join(draws.choices(WORDS, k=20)), "a")


def fill(count, split="train"):
    return [(split, far(n)) for n in range(count)]


def test_log_lines_that_leaked_are_kept_together_and_run_at_once(workspace):
    write(workspace / "rows.jsonl", *make_log(600, 300))
    main(compose_config(*TINY))
    numbers = json.loads((workspace / "metrics/prepare.json").read_text())
    grouped = numbers["near_duplicates"]
    assert "leak" not in numbers["findings"] and numbers["findings"]["near_duplicate"] > 50
    assert grouped["clusters"] > 20 and grouped["moved"] > 30
    homes = {}
    for split in SPLITS:
        for record in read_records(split):
            message = record.question.split(" ", 1)[1].rsplit(" ", 1)[0]
            homes.setdefault(message, set()).add(split)
    assert all(len(home) == 1 for home in homes.values())


def test_only_rows_with_near_twins_move_and_they_follow_the_smallest_id(config, tmp_path):
    twins = [("train", near("x")), ("test", near("y")), ("validation", near("z"))]
    seen = Compared(
        config(), tmp_path, [*twins, *fill(200), *[("test", far(n)) for n in (900, 901)]]
    )
    ids = [record.id for _, record in twins]
    assert {seen.after[i] for i in ids} == {seen.before[min(ids)]}
    assert all(seen.after[i] == split for i, split in seen.before.items() if i not in ids)
    clusters = {r.meta.get("cluster") for rows in seen.records().values() for r in rows}
    assert clusters == {None, min(ids)}
    assert seen.numbers == {
        "clusters": 1, "rows": 3, "largest": 3, "moved": 2,
        "in_train": 0, "rows_in_train": 0, "left_apart": 0,
    }  # fmt: skip


def test_rows_stay_in_the_order_of_the_source_with_their_lines(config, tmp_path):
    placed = [(SPLITS[n % 3], near(f"x{n}")) for n in range(9)]
    seen = Compared(config(), tmp_path, [*placed, *fill(300)])
    [home] = {seen.after[record.id] for _, record in placed}
    lines = [seen.files.place(home, row)[1] for row in range(seen.files.counts[home])]
    assert lines == sorted(lines) and set(range(1, 10)) <= set(lines)
    by_line = {n: record.id for n, (_, record) in enumerate(placed, start=1)}
    for line, record in zip(lines, seen.records()[home], strict=True):
        assert by_line.get(line, record.id) == record.id


def test_a_row_that_shares_only_the_question_follows_the_cluster(config, tmp_path):
    records = [near("x"), near("y"), near("y", "quite another answer")]
    placed = list(zip(("train", "test", "test"), records, strict=True))
    seen = Compared(config(), tmp_path, [*placed, *fill(200)])
    assert len({seen.after[record.id] for record in records}) == 1


def test_test_rows_with_near_twins_keep_their_share(config, tmp_path):
    """Each of 400 clusters is drawn like a row, whatever its size."""
    draws = random.Random(3)
    placed = []
    for n in range(400):
        words = draws.choices([f"{a}{b}" for a in WORDS for b in WORDS], k=30)
        for twin in range(n % 4 + 2):
            split = draws.choices(SPLITS, (65, 10, 25))[0]
            placed.append((split, chat(" ".join([*words, f"x{twin}"]), "a")))
    seen = Compared(config(), tmp_path, placed)
    share = Counter(seen.after.values())["test"] / len(seen.after)
    assert seen.numbers["clusters"] == 400 and share == pytest.approx(0.25, abs=0.05)


def test_a_cluster_too_large_for_a_held_out_split_is_in_train_and_said_so(workspace):
    write(workspace / "rows.jsonl", *make_log(60, 1))
    with pytest.raises(SystemExit) as stop:
        main(compose_config(*TINY))
    assert "60 near-duplicates are in train" in str(stop.value)
    write(workspace / "rows.jsonl", *make_log(60, 1), *make_log(90, 10**4, seed=8))
    main(compose_config(*TINY, "checks.min_test_rows=50"))
    found = (workspace / "data/prepared/findings.jsonl").read_text()
    assert "Raise checks.near_duplicate_threshold" in found
    cluster = " ".join(make_log(1, 1)[0]["text"].split()[1:-1])  # the message of the 60 rows
    held_out = read_records("test")
    assert held_out and not any(cluster in record.question for record in held_out)
    assert any(cluster in record.question for record in read_records("train"))


def test_a_small_cluster_joins_groups_and_a_large_one_leaves_them(config, tmp_path):
    groups = [("train", near("x", group="g1")), ("test", near("y", group="g2"))]
    more = [(s, far(n)) for s, n in (("train", 1001), ("test", 1002))]
    for (_, record), name in zip(more, ("g1", "g2"), strict=True):
        record.meta["group"] = name
    seen = Compared(config(), tmp_path, [*groups, *more, *fill(200)])
    assert len({seen.after[record.id] for _, record in (*groups, *more)}) == 1
    apart = Compared(config(), tmp_path, [*groups, *more, *fill(3)])
    assert apart.after == apart.before and apart.numbers["left_apart"] == 1


def test_given_splits_are_not_moved(config, tmp_path):
    placed = [("train", near("x")), ("test", near("y")), ("test", near("z")), *fill(50)]
    seen = Compared(config(), tmp_path, placed, drawn=())
    assert seen.after == seen.before and seen.numbers["moved"] == 0
    test = [record.meta.get("cluster") for record in seen.records()["test"]]
    assert len(test) == 2 and test[0] == test[1] is not None  # one observation
    assert len(seen.result.pairs.first) >= 2


def test_a_bridge_that_the_first_search_misses_is_found(config, tmp_path):
    """A bucket may hold rows that are near to few others of it: compare within whole buckets."""
    draws = random.Random(11)
    placed = []
    for _ in range(8):
        words = draws.choices(WORDS, k=24)
        for _ in range(60):
            changed = words.copy()
            for place in draws.sample(range(24), 2):
                changed[place] = f"x{draws.randint(1, 4)}"
            placed.append((draws.choices(SPLITS, (65, 10, 25))[0], chat(" ".join(changed), "a")))
    checked = config("checks.near_duplicate_threshold=0.7")
    seen = Compared(checked, tmp_path, placed)
    shingles = {}
    for split, records in seen.records().items():
        for record in records:
            words = record.question.split()
            shingles[split, record.id] = {tuple(words[i : i + 3]) for i in range(len(words) - 2)}
    held = [key for key in shingles if key[0] != "train"]
    leaking = [
        key
        for key in held
        if any(
            other[0] != key[0] and len(s & shingles[key]) / len(s | shingles[key]) >= 0.7
            for other, s in shingles.items()
        )
    ]
    assert len(held) > 50 and len(leaking) <= 0.02 * len(held)


def test_no_rows_are_no_clusters(config, tmp_path):
    seen = Compared(config(), tmp_path, [])
    assert not any(seen.numbers.values()) and seen.result.clusters.describe() == ""
    assert np.array_equal(seen.files.get_splits(), [])
