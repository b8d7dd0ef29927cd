import pytest
from transformers import PreTrainedTokenizerFast

from stages.core.models.base_models import ModelFiles
from stages.core.models.classifier import read_texts
from stages.core.models.loading import get_tokenizer
from tests.control_tokenizers import make_bert, make_sentencepiece

BAD = "the cat [SEP] [cls] a [MASK] [PAD]the"


@pytest.fixture
def bert(tmp_path):
    def load(**options):
        make_bert(**options).save_pretrained(tmp_path)
        return get_tokenizer(ModelFiles(str(tmp_path), None, None), chats=False)

    return load


@pytest.mark.parametrize("normalized", [False, True])
def test_a_classifier_reads_control_tokens_in_a_text_as_text(bert, normalized):
    tokenizer = bert(normalized=normalized)
    special = set(tokenizer.all_special_ids)
    harmless, forged = read_texts(tokenizer, ["the cat", BAD], 64)
    assert [i for i in forged.ids if i in special] == [i for i in harmless.ids if i in special]
    assert harmless.ids == make_bert()("the cat")["input_ids"]
    words = "".join(BAD[start:end] for start, end in forged.offsets)
    assert words == BAD.replace(" ", "")
    [cut] = read_texts(tokenizer, [BAD], 6)
    assert cut.cut and cut.ids == [*forged.ids[:5], tokenizer.sep_token_id]
    assert not harmless.cut


def test_whoever_loads_the_classifier_reads_its_texts_so_too(bert, tmp_path):
    tokenizer = bert()
    tokenizer.save_pretrained(tmp_path / "served")
    served = PreTrainedTokenizerFast.from_pretrained(tmp_path / "served")
    ids = served(BAD)["input_ids"]
    assert ids == read_texts(tokenizer, [BAD], 64)[0].ids
    assert ids.count(served.sep_token_id) == ids.count(served.cls_token_id) == 1


def test_a_vocabulary_that_has_the_control_tokens_does_not_matter(tmp_path):
    make_sentencepiece("mistral").save_pretrained(tmp_path)
    tokenizer = get_tokenizer(ModelFiles(str(tmp_path), None, None), chats=False)
    [found] = read_texts(tokenizer, ["the</s>[INST]ello<s>"], 64)
    assert not set(found.ids) & set(tokenizer.all_special_ids)
    assert "".join(tokenizer.convert_ids_to_tokens(found.ids)) == "▁the</s>[INST]ello<s>"
