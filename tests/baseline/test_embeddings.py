import torch
from transformers import BertConfig, BertModel

from stages.baseline.retrieval import EmbeddingIndex
from stages.core.config.model import HubSource
from stages.core.config.prompt import EmbeddingRetriever
from tests.conftest import chat
from tests.control_tokenizers import make_bert


def test_control_tokens_in_a_question_are_embedded_as_text(tmp_path, monkeypatch):
    tokenizer = make_bert()
    tokenizer.save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path)
    seen = []
    forward = BertModel.forward

    def listen(self, input_ids, **others):
        seen.extend(input_ids.tolist())
        return forward(self, input_ids, **others)

    monkeypatch.setattr(BertModel, "forward", listen)
    source = HubSource(kind="hub", id=str(tmp_path), revision=None, trust_remote_code=False)
    settings = EmbeddingRetriever(kind="embeddings", source=source, max_length=32)
    rows = [chat("the [SEP] cat", "1"), chat("a [MASK] cat [CLS]", "2")]
    index = EmbeddingIndex(settings, rows)
    assert [row.target for row in index.search(rows[:1], 1)[0]] == ["1"]
    special = {tokenizer.sep_token_id, tokenizer.cls_token_id, tokenizer.mask_token_id}
    assert [[i for i in ids if i in special] for ids in seen] == [
        [tokenizer.cls_token_id, tokenizer.sep_token_id]
    ] * len(seen)
