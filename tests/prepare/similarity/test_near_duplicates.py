import numpy as np
import pytest

from stages.core.data.records import SPLITS
from stages.prepare.reading import Placed
from stages.prepare.similarity.buckets import PERMUTATIONS, RECALL, band_width
from stages.prepare.similarity.near_duplicates import NearDuplicates
from stages.prepare.splits import SplitFiles
from tests.conftest import chat

TEXT = " ".join(f"word{n}" for n in range(1, 16)) + " sixteen"
NEAR = TEXT.replace("sixteen", "17")  # 13 of 15 shingles are the same


def find(tmp_path, *placed, threshold=0.8):
    files = SplitFiles(tmp_path)
    files.write(
        Placed(record, split, "rows", line) for line, (split, record) in enumerate(placed, start=1)
    )
    near = NearDuplicates(threshold, 42, files)
    for split in SPLITS[::-1]:
        for batch in files.batches(split):
            near.add(batch)
    pairs = near.find(np.full(len(SPLITS), True))
    return [
        (*(files.place(*files.find(int(row)))[1] for row in rows), round(similarity, 2))
        for *rows, similarity in zip(*pairs, strict=True)
    ]


def test_a_near_row_is_found_in_its_split_and_across(tmp_path):
    far = [
        ("train", chat(f"{n} is quite another question about {n * 7} things", "a"))
        for n in range(40)
    ]
    inside = find(tmp_path, *far, ("train", chat(TEXT, "a")), ("train", chat(NEAR, "a")))
    assert inside == [(41, 42, 0.88)]
    across = find(tmp_path, ("train", chat(TEXT, "a")), *far, ("test", chat(NEAR, "a")))
    assert across == [
        (42, 1, 0.88)
    ]  # the row of the test split comes first: the other one is left out


def test_another_answer_makes_another_row(tmp_path):
    assert find(tmp_path, ("train", chat(TEXT, "yes")), ("test", chat(NEAR, "no"))) == []


def test_what_all_questions_have_in_common_is_a_template(tmp_path):
    question = "Is the following string a food item or related to food? Answer with one word only, please: "
    rows = [("train" if n % 2 else "test", chat(f"{question}thing{n}", "Yes")) for n in range(60)]
    assert find(tmp_path, *rows) == []


def test_the_threshold_decides(tmp_path):
    rows = [("train", chat(TEXT, "a")), ("train", chat(NEAR, "a"))]
    assert len(find(tmp_path, *rows, threshold=0.85)) == 1
    assert find(tmp_path, *rows, threshold=0.9) == []


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_bands_are_as_wide_as_the_recall_allows(threshold):
    def recall(width):
        return 1 - (1 - threshold**width) ** (PERMUTATIONS // width)

    width = band_width(threshold)
    assert recall(width) >= RECALL and (width == PERMUTATIONS or recall(width + 1) < RECALL)


def test_a_script_without_spaces_has_shingles(tmp_path):
    text = "这是一个关于合同和贷款以及抵押物的非常长的问题请列出其中所有的实体名称和地点" * 2
    assert (
        len(find(tmp_path, ("train", chat(text, "好")), ("test", chat(text[:-1] + "呢", "好"))))
        == 1
    )


@pytest.mark.parametrize(
    ("text", "near"),
    [
        # Names in Latin letters and spaces, so that most characters stand in few "words".
        (
            "ราคา iPhone 15 Pro Max 256 GB ที่ร้านในกรุงเทพวันนี้เท่าไรและมีส่วนลดสำหรับนักศึกษาหรือไม่",
            "ราคา iPhone 15 Pro Max 256 GB ที่ร้านในกรุงเทพวันนี้เท่าไรและมีส่วนลดสำหรับนักศึกษาหรือเปล่า",
        ),
        (
            "Python 3.11 と PyPI と Docker を使っていますがこのエラーの直し方を教えてください",
            "Python 3.11 と PyPI と Docker を使っていますがこのエラーの直し方を教えてくださいね",
        ),
        # The same Urdu sentence from an Urdu and from an Arabic keyboard.
        ("یہ کتاب کس نے کب اور کہاں لکھی تھی؟", "يہ كتاب كس نے كب اور كہاں لكھی تھی؟"),
        ("https://example.com/" + "a/b/" * 20 + "1", "https://example.com/" + "a/b/" * 20 + "2"),
    ],
)
def test_near_rows_are_found_in_every_script(tmp_path, text, near):
    assert len(find(tmp_path, ("train", chat(text, "a")), ("test", chat(near, "a")))) == 1
