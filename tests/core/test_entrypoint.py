"""What every stage does around its work."""

import os

import pytest
from omegaconf import OmegaConf

from stages.core.entrypoint import PRIMITIVES, plain_main


@pytest.mark.parametrize(("given", "expected"), [(None, PRIMITIVES[1]), ("7", "7")])
def test_products_of_each_shape_are_kept_for_few_shapes_unless_told_otherwise(
    monkeypatch, given, expected
):
    monkeypatch.delenv(PRIMITIVES[0], raising=False)
    if given:
        monkeypatch.setenv(PRIMITIVES[0], given)
    seen = []
    plain_main("train")(lambda _: seen.append(os.environ[PRIMITIVES[0]]))(OmegaConf.create({}))
    assert seen == [expected]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError("I/O error: No space left on device"),
        RuntimeError("x: No space left on device"),
    ],
)
def test_a_full_disk_is_one_message_whoever_wraps_it(error):
    def work(_):
        raise error

    with pytest.raises(SystemExit, match="train: no space left on the disk"):
        plain_main("train")(work)(OmegaConf.create({}))
