"""Test that no check of `prepare` takes time that is quadratic in the size of a row."""

import pytest

from benchmarks.worst_row_values import make_rows
from benchmarks.worst_rows import make_checks, time_of
from stages.core.models.base_models import get_base_tokenizer
from stages.core.models.loading import get_tokenizer

SIZE = 20_000
TIMES = 5  # as large is the second row
MOST = 1.0  # seconds for the larger row; most checks take 0.01 s, quadratic ones took minutes


@pytest.mark.parametrize("name", make_rows(1_000))
def test_the_time_of_a_check_grows_with_the_row_and_not_with_its_square(config, tmp_path, name):
    checked = config("checks.too_long=truncate", "model.max_length=256")
    tokenizer = get_tokenizer(get_base_tokenizer(checked.model))
    seconds = []
    for size in (SIZE, SIZE * TIMES):
        checks = make_checks(make_rows(size)[name], checked, tokenizer, tmp_path)
        seconds.append({check: time_of(run) for check, run in checks})
    for check, took in seconds[1].items():
        # Either is enough, because short times vary with what else the machine does.
        assert took < MOST or took < seconds[0].get(check, 0) * TIMES * 2, check
