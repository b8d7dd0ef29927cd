from stages.evaluate.analysis.slices import compare_slices
from tests.conftest import chat
from tests.core.statistics.test_bounds import binary


def test_a_part_on_which_the_tuned_arm_loses_is_marked(config):
    records = [chat(f"question {n}", "yes" if n < 40 else "no") for n in range(200)]
    theirs = binary(*[1] * 40, *[0] * 160)
    ours = binary(*[0] * 40, *[1] * 160)
    parts = {
        (part.by, part.value): part
        for part in compare_slices(config().evaluate, records, ours, theirs, None)
    }
    assert parts["label", "yes"].loses and not parts["label", "no"].loses
    assert (
        parts["label", "yes"].rows,
        parts["label", "yes"].ours,
        parts["label", "yes"].theirs,
    ) == (40, 0, 1)
    assert sum(part.rows for (by, _), part in parts.items() if by == "length") == 200
