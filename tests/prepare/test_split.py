import pytest

from stages.core.data.records import SPLITS, Record
from stages.core.errors import UserError
from stages.prepare.split import Splitter
from tests.conftest import chat
from tests.prepare.rows import read, write


def splitter(config, *overrides, given=()):
    return Splitter(config(*overrides).data.split, 1, set(given))


def labelled(n, label):
    messages = [{"role": "user", "content": f"text {n}"}, {"role": "assistant", "content": label}]
    return Record.of(messages, meta={"label": label})


def shares(chosen):
    return {split: list(chosen).count(split) / len(chosen) for split in SPLITS}


def test_the_split_is_a_share_and_stays_when_rows_are_added_or_moved(config):
    old = [chat(f"question {n}", "answer") for n in range(2000)]
    new = [chat(f"new {n}", "answer") for n in range(500)]
    found = []
    for records in (old, new + old[::-1]):
        chooser = splitter(config)
        found.append({record.id: chooser.choose(record, None) for record in records})
    assert all(
        found[1][record.id] == split for record, split in zip(old, found[0].values(), strict=True)
    )
    assert shares(found[0].values())["test"] == pytest.approx(0.25, abs=0.03)


def test_two_answers_to_one_question_stay_together_whatever_its_case(config):
    chooser = splitter(config)
    for n in range(300):
        asked = (chat(f"Question {n}", "yes"), chat(f"question  {n}", "no"))
        assert len({chooser.choose(record, None) for record in asked}) == 1


def test_a_group_is_never_parted(config, tmp_path):
    rows = [{"text": f"text {n}", "label": "x", "who": n // 7} for n in range(700)]
    path = write(tmp_path / "rows.jsonl", *rows)
    records, *_ = read(config, path, "data.group_column=who")
    chooser = splitter(config)
    homes = {}
    for record in records:
        homes.setdefault(record.meta["group"], set()).add(chooser.choose(record, None))
    assert len(homes) == 100 and all(len(home) == 1 for home in homes.values())


def test_a_blank_cell_names_no_group(config, tmp_path):
    names = ["a", "a", "", " ", None]
    rows = [{"text": f"text {n}", "label": "x", "who": name} for n, name in enumerate(names)]
    path = write(tmp_path / "rows.jsonl", *rows)
    records, *_ = read(config, path, "data.group_column=who")
    assert [record.meta.get("group") for record in records] == ["a", "a", None, None, None]


def test_groups_that_follow_one_another_are_never_parted(config, tmp_path):
    path = write(tmp_path / "rows.jsonl", *[{"text": f"text {n}", "label": "x"} for n in range(10)])
    records, *_ = read(config, path, "data.group_starts=[4,9]")
    assert [record.meta["group"] for record in records] == ["1"] * 3 + ["2"] * 5 + ["3"] * 2
    chooser = splitter(config)
    homes = {(record.meta["group"], chooser.choose(record, None)) for record in records}
    assert len(homes) == 3


def test_a_row_that_cannot_be_read_still_counts_for_where_groups_begin(config, tmp_path):
    rows = [{"text": "a", "label": "x"}, b"no json", {"text": "b", "label": "x"}]
    records, *_ = read(config, write(tmp_path / "rows.jsonl", *rows), "data.group_starts=[3]")
    assert [record.meta["group"] for record in records] == ["1", "2"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data.group_column=who", "data.group_starts=[4]"],
            "group_column and group_starts exclude each other",
        ),
        (["data.group_starts=[9,4]"], "in ascending order"),
        (["data.group_starts=[0]"], "greater than or equal to 1"),
    ],
)
def test_groups_that_make_no_sense_are_refused(config, overrides, message):
    with pytest.raises(UserError, match=message):
        config(*overrides)


def test_every_label_has_its_share_in_every_split(config):
    chooser = splitter(config)
    rows = [labelled(n, f"label {n % 12}") for n in range(12 * 20)]
    chosen = [(record.meta["label"], chooser.choose(record, None)) for record in rows]
    for label in {label for label, _ in chosen}:
        counts = shares([split for name, split in chosen if name == label])
        assert counts["test"] == pytest.approx(0.25, abs=0.051) and counts[
            "validation"
        ] == pytest.approx(0.1, abs=0.051)


def test_appended_rows_move_no_labelled_row(config):
    rows = [labelled(n, f"label {n % 3}") for n in range(300)]
    chosen = []
    for count in (200, 300):
        chooser = splitter(config)
        chosen.append([chooser.choose(record, None) for record in rows[:count]])
    assert chosen[1][:200] == chosen[0]


def test_given_splits_are_kept_and_the_missing_one_comes_out_of_train(config):
    chooser = splitter(config, given=["train", "test"])
    rows = [chat(f"question {n}", "answer") for n in range(1000)]
    assert {chooser.choose(record, "test") for record in rows} == {"test"}
    counts = shares([chooser.choose(record, "train") for record in rows])
    assert counts["test"] == 0 and counts["validation"] == pytest.approx(0.1, abs=0.03)
    whole = splitter(config, given=SPLITS)
    assert {whole.choose(record, "train") for record in rows} == {"train"}


def test_a_column_may_say_the_split(config, tmp_path):
    rows = [
        {"prompt": f"q{n}", "completion": "a", "part": part}
        for n, part in enumerate(["train", "dev", "Test"])
    ]
    path = write(tmp_path / "rows.jsonl", *rows, {"prompt": "q", "completion": "a", "part": "tset"})
    overrides = ["data.split.column=part"]
    records, findings, _ = read(config, path, *overrides)
    assert [(f.code, f.line, f.field) for f in findings] == [("unknown_split", 4, "part")]
    assert len(records) == 3 and all("split" not in record.meta for record in records)
