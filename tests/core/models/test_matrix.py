"""The page about models has the matrix of architectures that is tested."""

from tests.architectures import GGUF, MATRIX
from tests.matrix import PAGE, replace_table


def test_the_page_has_the_matrix_of_today():
    page = PAGE.read_text()
    assert replace_table(page) == page, "run `python -m tests.matrix`"


def test_a_conversion_to_gguf_is_known_of_each_architecture():
    assert list(GGUF) == [architecture.name for architecture in MATRIX]
