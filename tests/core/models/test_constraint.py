import pytest

from stages.core.models.constraint import Walk, build_trie

END = 49_151
ANSWERS = [[42_049, 1_283, END], [42_049, 21_837, END], [7_777, END]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_walk_ends_in_an_allowed_answer_whatever_the_type_of_the_logits(dtype):
    import torch

    walk = Walk(build_trie(ANSWERS), 2)
    said = [[], []]
    for step in range(3):
        going = [row for row in range(2) if END not in said[row]]
        logits = torch.randn(len(going), END + 1, generator=torch.Generator().manual_seed(step)).to(
            getattr(torch, dtype)
        )
        if step == 0:
            logits[1, 7_777] = 100.0  # the second row takes the short answer
        for row, token in zip(going, walk.choose(logits, going).tolist(), strict=True):
            said[row].append(token)
    assert said[0] in ANSWERS[:2] and said[1] == ANSWERS[2]
