import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.data.unicode_text import (
    clean,
    count_scripts,
    fold,
    get_script,
    get_words,
    shorten_marks,
    split_text,
    unify,
)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (unicodedata.normalize("NFD", "й é"), "й é", True),
        ("สวัส\u200bดี", "สวัสดี", True),  # a break for lines
        ("co\u00adoperate", "cooperate", True),
        ("\ufeff\u200f١٢\u2069", "١٢", True),
        ("a\u200db", "ab", True),
        ("\u0d05\u0d35\u0d28\u0d4d\u200d", "\u0d05\u0d35\u0d7b", True),  # Malayalam: chillu n
        ("می\u200cرود", "میرود", False),  # Persian
        ("کار\u200cها", "کارها", True),  # after a letter that joins nothing
        ("क्\u200dष", "क्ष", False),  # Hindi
        ("क्\u200cष", "क्ष", False),
        ("র\u200d্য", "র্য", False),  # Bengali
        ("👨\u200d👩", "👨👩", False),
        ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "🏴", False),  # England
        ("\n\u200cx", "\nx", True),
        ("e\u200b\u0301", "é", True),  # nothing is between them any more
    ],
)
def test_what_looks_the_same_is_the_same(one, other, same):
    assert (clean(one) == clean(other)) is same


@given(st.text(max_size=30))
def test_cleaning_and_folding_twice_changes_nothing(text):
    assert clean(clean(text)) == clean(text) and fold(fold(text)) == fold(text)


def test_case_and_white_space_are_folded():
    assert fold(" STRASSE\N{NO-BREAK SPACE}\n  Éa ") == fold("straße éa") == "strasse éa"
    assert fold("ΣΑΣ") == fold("σας")


def test_one_code_for_each_character():
    assert unify("ｆｕｌｌ ① ٣٫٥ १२ كتاب ہ نـــعم") == "full 1 3.5 12 کتاب ه نعم"
    assert unify("10² H₂O 1½") == "10² H₂O 1½"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop_now, größer 3.5!", ["don", "t", "stop", "now", "grösser", "3", "5"]),
        ("มีนาคม 12", ["มี", "น", "า", "ค", "ม", "12"]),
        ("मैं हिन्दी बोलता हूँ।", ["मैं", "हिन्दी", "बोलता", "हूँ"]),
        ("می\u200cرود، نعم", ["می\u200cرود", "نعم"]),
        ("東京タワー。", ["東", "京", "タ", "ワ", "ー"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("👍 ...", []),
    ],
)
def test_words(text, words):
    assert get_words(text) == words


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("What is 3 + 5?", ["What", "is", "3", "+", "5?"]),
        ("iPhone 15 ราคา", ["iPhone", "15", "ร", "า", "ค", "า"]),
        ("价格是iPhone。", ["价", "格", "是", "iPhone。"]),
        ("कीमत क्या है?", ["कीमत", "क्या", "है?"]),
        (f"see {'a/' * 21}b", ["see", *["a", "/"] * 21, "b"]),  # a link
        ("", []),
    ],
)
def test_text_is_split_without_a_loss(text, tokens):
    assert split_text(text) == tokens
    assert "".join(tokens) == "".join(text.split())


def test_scripts():
    assert count_scripts(["abc 12 où", "да!"]) == {"Latin": 5, "Cyrillic": 2}
    assert [get_script(text) for text in ("12!", "a да", "กข")] == ["none", "Cyrillic", "Thai"]


@pytest.mark.parametrize("between", ["", "\u200b", "\u0640"])
def test_runs_of_marks_that_no_language_has_are_cut(between):
    marks = f"\u0301\u0323{between}" * 200
    assert shorten_marks("a" + "\u0301" * 30) == "a" + "\u0301" * 30
    assert 30 < len(unify(fold(f"a{marks}b"))) <= 32


def test_marks_of_languages_stay():
    for text in ("กิ่น น้ำ", "नमस्ते", "Việt", "שָׁלוֹם", "مُحَمَّدٌ"):
        assert shorten_marks(unicodedata.normalize("NFD", text)) == unicodedata.normalize(
            "NFD", text
        )
