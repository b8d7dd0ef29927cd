import pytest

from stages.baseline.retrieval import BM25Index
from stages.baseline.words import get_terms
from tests.conftest import chat

# Sentences of like kind, so that an index has to tell them apart by their words.
CITIES = {
    "Latin": (
        "The capital of {} is a large city on a river.",
        ["France", "Peru", "Chad", "Malta", "Ghana", "Norway", "Japan", "Cuba", "Laos", "Fiji"],
    ),
    "Bulgarian": (
        "Столицата на {} е голям град край река.",
        ["Франция", "Перу", "Чад", "Малта", "Гана", "Норвегия", "Япония", "Куба", "Лаос", "Фиджи"],
    ),
    "Chinese": (
        "{}的首都是一座临河的大城市。",
        ["法国", "秘鲁", "乍得", "马耳他", "加纳", "挪威", "日本", "古巴", "老挝", "斐济"],
    ),
    "Japanese": (
        "{}の首都は川沿いの大きな都市です。",
        [
            "フランス",
            "ペルー",
            "チャド",
            "マルタ",
            "ガーナ",
            "ノルウェー",
            "日本",
            "キューバ",
            "ラオス",
            "フィジー",
        ],
    ),
    "Thai": (
        "เมืองหลวงของ{}เป็นเมืองใหญ่ริมแม่น้ำ",
        ["ฝรั่งเศส", "เปรู", "ชาด", "มอลตา", "กานา", "นอร์เวย์", "ญี่ปุ่น", "คิวบา", "ลาว", "ฟิจิ"],
    ),
    "Urdu": (
        "{} کا دارالحکومت دریا کے کنارے ایک بڑا شہر ہے۔",
        ["فرانس", "پیرو", "چاڈ", "مالٹا", "گھانا", "ناروے", "جاپان", "کیوبا", "لاؤس", "فجی"],
    ),
    "Arabic": (
        "عاصمة {} مدينة كبيرة على نهر.",
        ["فرنسا", "بيرو", "تشاد", "مالطا", "غانا", "النرويج", "اليابان", "كوبا", "لاوس", "فيجي"],
    ),
    "Telugu": (
        "{} రాజధాని నది ఒడ్డున ఉన్న పెద్ద నగరం.",
        ["ఫ్రాన్స్", "పెరూ", "చాడ్", "మాల్టా", "ఘనా", "నార్వే", "జపాన్", "క్యూబా", "లావోస్", "ఫిజీ"],
    ),
    "Hindi": (
        "{} की राजधानी नदी के किनारे एक बड़ा शहर है।",
        ["फ़्रांस", "पेरू", "चाड", "माल्टा", "घाना", "नॉर्वे", "जापान", "क्यूबा", "लाओस", "फ़िजी"],
    ),
    "Malayalam": (
        "{} തലസ്ഥാനം നദീതീരത്തുള്ള ഒരു വലിയ നഗരമാണ്.",
        ["ഫ്രാൻസ്", "പെറു", "ചാഡ്", "മാൾട്ട", "ഘാന", "നോർവേ", "ജപ്പാൻ", "ക്യൂബ", "ലാവോസ്", "ഫിജി"],
    ),
}


@pytest.mark.parametrize("script", CITIES)
def test_an_indexed_question_is_found_by_itself_in_every_script(script):
    frame, names = CITIES[script]
    records = [chat(frame.format(name), name) for name in names]
    found = BM25Index(records).search(records, 1)
    assert sum(
        row[-1].id == record.id for row, record in zip(found, records, strict=True)
    ) >= 0.9 * len(records)


@pytest.mark.parametrize("script", CITIES)
def test_a_name_alone_finds_its_sentence(script):
    frame, names = CITIES[script]
    records = [chat(frame.format(name), name) for name in names]
    found = BM25Index(records).search([chat(name, "?") for name in names], 1)
    assert sum(row[-1].target == name for row, name in zip(found, names, strict=True)) >= 0.9 * len(
        names
    )


def test_marks_belong_to_their_letters_and_scripts_without_spaces_give_pairs():
    assert get_terms("హైదరాబాద్ తెలంగాణ") == ["హైదరాబాద్", "తెలంగాణ"]
    assert get_terms("東京タワーはhigh 5m.") == [
        "東京",
        "京タ",
        "タワ",
        "ワー",
        "ーは",
        "high",
        "5m",
    ]
    assert get_terms("The Straße, ﬁve NAÏVE don't") == [
        "the",
        "strasse",
        "five",
        "naïve",
        "don",
        "t",
    ]
    assert get_terms("京") == ["京"] and get_terms("!? …") == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("زبان\u200cها", "زبانها"),  # with and without an invisible joiner
        ("مَا هِيَ عَاصِمَةُ فَرَنْسَا؟", "ما هي عاصمة فرنسا"),  # with short vowels
        ("أين الآن إلى", "اين الان الى"),  # with and without hamza
        ("یہ کتاب کہاں", "يہ كتاب كہاں"),  # an Urdu and an Arabic keyboard
        ("۱۲ ١٢ १२", "12 12 12"),
        ("ＦＩＦＡ 2026年", "fifa 2026年"),
        ("CO₂", "co2"),
        ("й", "и\u0306"),
    ],
)
def test_what_writers_and_keyboards_do_differently_does_not_count(one, other):
    assert get_terms(one) == get_terms(other) != []


def test_a_question_without_words_is_indexed_and_answered():
    records = [chat("!!!", "a"), chat("…", "b"), chat("the bank", "c")]
    found = BM25Index(records).search([chat("bank?", "x"), chat("???", "x")], 1)
    assert found[0][-1].target == "c" and len(found[1]) == 1
    assert len(BM25Index(records[:1]).search([chat("", "x")], 3)[0]) == 1
