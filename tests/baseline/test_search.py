import pytest

from stages.baseline.asking import get_shot_counts, has_room
from stages.baseline.candidates import Candidate, get_candidates
from stages.baseline.halving import Cost
from stages.baseline.retrieval import BM25Index
from stages.baseline.search import Trial, get_spread, search
from stages.baseline.shots import draw_shots, get_shots
from stages.core.data.predictions import Prediction
from stages.core.models.loading import get_tokenizer
from tests.conftest import chat


class Oracle:
    """Answers right where it is told to; counts what it is asked."""

    def __init__(self, good, tokens=lambda candidate: 10 * candidate.shots):
        self.good = good
        self.tokens = tokens
        self.asked = []

    def __call__(self, arm, candidate, records):
        self.asked.append((candidate, len(records)))
        tokens = self.tokens(candidate)
        return [
            Prediction(r.id, arm, r.target if self.good(candidate) else "", tokens, 1, 0.1)
            for r in records
        ]

    def get_cost(self, candidate, records):
        return Cost(0, self.tokens(candidate) + 1)


def make(config, arm, *overrides, repeated=True):
    prompt = config(*overrides).prompt
    return get_candidates(prompt, arm, prompt.shots, 42, repeated=repeated)


def drawn(shots, draw=42, order="given", *, balanced=False):
    return Candidate(None, "drawn", shots, draw, order, balanced)


def test_an_arm_tries_instructions_numbers_draws_and_orders(config):
    few = make(config, "few_shot", "prompt.shots=[2,5]", "prompt.system_prompt_variants=[Short]")
    assert len(few) == len(set(few)) == 2 * 2 * 2 * 2
    assert {(c.instruction, c.shots) for c in few[:4]} == {
        (None, 2),
        (None, 5),
        ("Short", 2),
        ("Short", 5),
    }
    assert {(c.draw, c.order) for c in few[:4]} == {(42, "given")} and few[4].order == "reversed"
    assert {(c.draw, c.balanced) for c in few} == {(42, False), (43, True)}
    assert not any(c.balanced for c in make(config, "few_shot", repeated=False))
    assert [c.order for c in make(config, "retrieval", "prompt.shots=[2]")] == ["given", "reversed"]
    assert len(make(config, "zero_shot", "prompt.system_prompt_variants=[Short]")) == 2
    assert len(make(config, "few_shot", "prompt.shots=[1]")) == 2  # one example has one order


def test_the_best_candidate_is_chosen_on_all_rows(config):
    rows = [chat(f"question {n}", f"answer {n}") for n in range(60)]
    candidates = make(config, "few_shot", "prompt.shots=[1,3]")
    oracle = Oracle(lambda c: c == candidates[4])
    checked = config("prompt.shots=[1,3]", "prompt.search.selection_rows=null")
    choice = search(checked, oracle, "few_shot", candidates, rows, 10**9, 2)
    assert (
        choice.candidate == candidates[4]
        and choice.rows == 60
        and choice.candidates == len(candidates) == 6
    )
    assert [trial.rows for trial in choice.trials] == [15] * 6 + [30] * 3 + [60] * 2
    assert (
        sum(count for _, count in oracle.asked) == 6 * 15 + 3 * 15 + 2 * 30
    )  # nothing is asked twice
    assert choice.tokens == sum(count * (10 * c.shots + 1) for c, count in oracle.asked)
    told = choice.describe()
    assert (
        told["shots"] == candidates[4].shots
        and told["trials"][0]["rows"] == 15
        and "candidate" not in told
    )


def test_a_search_keeps_to_its_budget_and_a_cheap_one_to_twice_the_essential_candidates(config):
    rows = [chat(f"question {n}", f"answer {n}") for n in range(60)]
    checked = config(
        "prompt.shots=[1,3]", "prompt.search.selection_rows=48", "prompt.search.draws=8"
    )
    candidates = make(config, "few_shot", "prompt.shots=[1,3]", "prompt.search.draws=8")
    for budget, limit in ((None, 2 * 48 * (11 + 31)), (1_500, 1_500)):
        oracle = Oracle(lambda _: True)
        choice = search(checked, oracle, "few_shot", candidates, rows, budget, 2)
        assert 0 < choice.tokens <= choice.budget == limit
        assert len({c for c, _ in oracle.asked}) < len(candidates)


def test_of_equal_candidates_the_shortest_prompt_wins_and_one_candidate_needs_no_trial(
    config, prepared
):
    oracle = Oracle(lambda _: True)
    candidates = [drawn(3), drawn(1)]
    assert (
        search(
            config(), oracle, "few_shot", candidates, prepared["validation"], None, 2
        ).candidate.shots
        == 1
    )
    alone = search(config(), None, "few_shot", [drawn(3)], prepared["validation"], None, 1)
    assert alone.trials == [] and alone.rows == 0 and alone.budget is None


def test_the_spread_says_what_order_and_draw_alone_do():
    scores = {drawn(2): 0.4, drawn(2, order="reversed"): 0.1, drawn(2, 43): 0.7, drawn(5): 0.5}
    trials = [Trial(candidate, 12, score, 9.0) for candidate, score in scores.items()]
    spread = get_spread([*trials, Trial(drawn(2, 43), 24, 0.9, 9.0)])
    assert spread["order"] == {"shots": 2, "rows": 12, "min": 0.1, "max": 0.4, "candidates": 2}
    assert spread["examples"] == {"shots": 2, "rows": 12, "min": 0.1, "max": 0.7, "candidates": 3}
    assert get_spread([]) == {"order": None, "examples": None}


def test_shots_come_from_the_training_split_alone_and_by_the_seed(prepared):
    train = prepared["train"]
    test = prepared["test"]
    none, similar = (Candidate(None, kind, 3, 1, "given", False) for kind in ("none", "similar"))
    for candidate, count in ((none, 0), (drawn(3), 3), (similar, 3)):
        shots = get_shots(candidate, train, test, BM25Index(train))
        assert len(shots) == len(test)
        assert all(len(row) == count and all(shot in train for shot in row) for row in shots)
    assert (
        draw_shots(train, drawn(3, 1))
        == draw_shots(train, drawn(3, 1))
        != draw_shots(train, drawn(3, 2))
    )
    assert draw_shots(train, drawn(3, 1, "reversed")) == draw_shots(train, drawn(3, 1))[::-1]
    assert len(draw_shots(train, drawn(99))) == len(train)


@pytest.mark.parametrize("seed", range(5))
def test_a_balanced_draw_takes_every_target_before_one_comes_twice(seed):
    train = [
        chat(f"question {n}", "rare" if n % 20 == 0 else "middle" if n % 4 == 0 else "often")
        for n in range(100)
    ]
    targets = [record.target for record in draw_shots(train, drawn(6, seed, balanced=True))]
    assert sorted(targets) == ["middle", "middle", "often", "often", "rare", "rare"]
    assert {record.target for record in draw_shots(train, drawn(3, seed, balanced=True))} == {
        "rare",
        "middle",
        "often",
    }


def test_more_examples_are_tried_up_to_what_fits_before_the_longest_question(
    config, base, prepared
):
    tokenizer = get_tokenizer(base)
    (train, _, test) = prepared.values()
    checked = config("prompt.shots=[2]", "prompt/search=thorough", "model.max_length=600")
    assert get_shot_counts(config("prompt.shots=[2]"), tokenizer, train, test) == [2]
    counts = get_shot_counts(checked, tokenizer, train, test)
    assert counts[:2] == [2, 4] and 4 < counts[-1] < len(train)
    long = [*test, chat("very " * 60, "x")]
    assert has_room(checked, tokenizer, train, drawn(4), test) and not has_room(
        checked, tokenizer, train, drawn(8), long
    )
    assert has_room(
        checked, tokenizer, train, drawn(2), long
    )  # asked for by prompt.shots: tried all the same
