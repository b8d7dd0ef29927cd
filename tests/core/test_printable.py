"""Texts of rows, models and servers are shown without what a terminal would obey."""

import logging
import re
import sys
import unicodedata

import pytest
from omegaconf import OmegaConf

from stages.core.entrypoint import plain_main
from stages.core.errors import UserError, one_line, printable
from stages.prepare.findings import Finding, Findings

HOSTILE = {
    "colour": ("\x1b[31mred", r"\x1b[31mred"),
    "clear": ("\x1b[2J\x1b[H", r"\x1b[2J\x1b[H"),
    "clipboard": ("\x1b]52;c;cm0gLXJm\x07", r"\x1b]52;c;cm0gLXJm\x07"),
    "link": ("\x1b]8;;http://x\x1b\\ok", r"\x1b]8;;http://x\x1b\ok"),
    "c1": ("\x9b31m\x9d52;c;x\x9c", r"\x9b31m\x9d52;c;x\x9c"),
    "over": ("bad\rgood\x08\x7f", r"bad\rgood\x08\x7f"),
    "bidi": ("a\u202egpj.exe\u2066b\u2069", r"a\u202egpj.exe\u2066b\u2069"),
    "invisible": ("a\u200b\ufeff\u2060\xad\U000e0041b", r"a\u200b\ufeff\u2060\xad\U000e0041b"),
    "lines": ("a\u2028b\x85c\x0bd\x0ce", r"a\u2028b\x85c\x0bd\x0ce"),
    "surrogate": ("\ud800", r"\ud800"),
}
HARMLESS = "\tNaïve 東京 ราคา\nमैं क्‍ष می‌رود ہاں א\u0301 👩‍👩‍👧 ½ \u0601١٢"


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_terminal_obeys_is_escaped(name):
    text, shown = HOSTILE[name]
    assert printable(text) == shown == printable(printable(text))


def test_texts_of_every_script_stay():
    assert printable(HARMLESS) == HARMLESS
    assert one_line("a\n\tb") == r"a\n\tb"


def test_every_control_and_format_character_is_escaped():
    """The table in the module agrees with Unicode's categories in this version of Python."""
    numbers = "ARABIC|KAITHI", "MARK ABOVE|SIGN|AYAH|FOOTNOTE"  # visible, and before digits
    for character in map(chr, range(sys.maxunicode + 1)):
        name = unicodedata.name(character, "")
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            stays = character in "\n\t\u200c\u200d" or all(re.search(of, name) for of in numbers)
            assert (printable(character) == character) is stays, name
        elif name:
            assert printable(character) == character, name


@pytest.fixture
def hostile():
    return "".join(text for name, (text, _) in HOSTILE.items() if name != "surrogate")


def is_safe(text):
    return printable(text) == text


def test_the_message_of_a_mistake_is_safe(hostile):
    def work(_):
        raise UserError(f"no column {hostile}")

    with pytest.raises(SystemExit) as ended:
        plain_main("prepare")(work)(OmegaConf.create({}))
    assert r"prepare: no column \x1b[31mred" in ended.value.code and is_safe(ended.value.code)


def test_log_lines_and_tracebacks_are_safe(hostile, capsys):
    def work(_):
        logging.getLogger("stages").info("row %s", hostile)
        try:
            raise ValueError(hostile)
        except ValueError:
            logging.getLogger("other").exception("failed")

    plain_main("prepare")(work)(OmegaConf.create({}))
    said = capsys.readouterr().err
    assert r"row \x1b[31mred" in said and r"ValueError: \x1b[31mred" in said and is_safe(said)


def test_a_finding_is_one_safe_line(config, tmp_path, hostile):
    findings = Findings(config().checks, tmp_path / "findings.jsonl")
    forged = f"{hostile}\nerror secret: 9"
    findings.add([Finding("encoding", f"{hostile}.csv", 3, forged, forged, "mend it")])
    findings.close()
    table = findings.table()
    assert len(table.splitlines()) == 2 and is_safe(table)
