"""Words of the form key=value are read, and what is wrong with one is said in one message."""

import pytest

from stages.core.config.words import parse_words, read_words
from stages.core.errors import UserError
from tools.export.options import ExportOptions

GIVEN = ("model=a@champion", "format=gguf")


def test_values_get_the_types_of_their_fields():
    words = (*GIVEN, "max_drift=0.1", "sample=3", "private=false", "to=a=b")
    options = parse_words(ExportOptions, words)
    assert (options.max_drift, options.sample, options.private) == (0.1, 3, False)
    assert options.to == "a=b"
    assert parse_words(ExportOptions, GIVEN).max_drift == 0.02


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gguf",), "'gguf': write key=value. The keys are model, format, quantization"),
        ((*GIVEN, "quantisation=f16"), "unknown key. Did you mean quantization?"),
        ((*GIVEN, "odd=1"), "odd: unknown key. The keys are"),
        ((*GIVEN, "format=merged"), "format is given twice: 'gguf' and 'merged'"),
        (("format=gguf",), "model: this key is missing. Write model="),
        (
            ("model=a/1", "format=onnx"),
            "format: should be 'merged', 'adapter' or 'gguf', got 'onnx'",
        ),
        ((*GIVEN, "quantization=q4_k_m"), "'f32', 'f16', 'bf16' or 'q8_0', got 'q4_k_m'"),
        ((*GIVEN, "max_drift=-1"), "max_drift: should be greater than or equal to 0, got '-1'"),
        ((*GIVEN, "push=name"), "push: String should match pattern"),
        (
            ("model=a/1", "format=merged", "quantization=f16"),
            "quantization=f16 is for format=gguf, but format=merged",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_message(words, said):
    with pytest.raises(UserError) as error:
        parse_words(ExportOptions, words)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_the_help_has_every_key_with_its_default(capsys):
    with pytest.raises(SystemExit):
        read_words(ExportOptions, "python -m tools.export", "Export it.", ["--help"])
    said = capsys.readouterr().out
    assert "Export it." in said
    assert all(f"\n  {key}: " in said for key in ExportOptions.model_fields)
    assert "(default: 0.02)" in said and "(default: true)" in said
