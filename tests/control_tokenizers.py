# ruff: noqa: S106  (the names of tokens are no passwords)
"""Made-up tokenizers with the control tokens and chat templates of known families of models."""

from importlib.util import find_spec
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

TURNS = (
    "{% for m in messages %}OPENING{{ m.role }}BETWEEN{{ m.content | trim }}CLOSING{% endfor %}"
    "{% if add_generation_prompt %}OPENINGassistantBETWEEN{% endif %}"
)


def chatml(opening, between, closing):
    parts = {"OPENING": opening, "BETWEEN": between, "CLOSING": closing}
    text = TURNS
    for name, part in parts.items():
        text = text.replace(name, part)
    return text


LLAMA = chatml("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>")
GEMMA = (
    "<bos>{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "<s>{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}</s>"
    "{% else %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}"
)
PHI = chatml("<|{{ '' }}", "|>\n", "<|end|>\n").replace("assistant|>", "assistant|>")
QWEN = (
    "{% if tools %}<|im_start|>system\n<tools>{% for t in tools %}\n{{ t | tojson }}{% endfor %}"
    "\n</tools><|im_end|>\n{% endif %}{% for m in messages %}"
    "{% if m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n</tool_response>"
    "{% else %}<|im_start|>{{ m.role }}\n"
    "{% set text = m.content.split('</think>')[-1].lstrip('\\n') if m.role == 'assistant' "
    "and not loop.last else m.content %}{{ text }}"
    '{% for c in m.tool_calls or [] %}<tool_call>\n{"name": "{{ c.function.name }}", '
    '"arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3 = (
    "{%- for m in messages %}"
    "{%- set text = m.content.split('</think>')[-1].lstrip('\\n') if m.role == 'assistant' "
    "else m.content %}"
    "{{- '<|im_start|>' + m.role + '\\n' }}"
    "{%- if m.role == 'assistant' and loop.last %}"
    "{{- '<think>\\n' + m.reasoning_content | default('') | trim('\\n') + '\\n</think>\\n\\n' }}"
    "{%- endif %}"
    "{{- text + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)
"""A template that thinks by default, as that of Qwen3 does."""
MARKUP = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
MARKUP += ["<tool_response>", "</tool_response>", "<|fim_prefix|>"]
# For each family: special tokens (the first one ends a turn), other added tokens, the template.
FAMILIES = {
    "llama": (["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"], [], LLAMA),
    "qwen": (["<|im_end|>", "<|im_start|>"], MARKUP, QWEN),
    "gemma": (["<end_of_turn>", "<start_of_turn>", "<bos>", "<eos>"], ["\n\n"], GEMMA),
    "mistral": (["</s>", "<s>", "[INST]", "[/INST]"], [], MISTRAL),
    "phi": (["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"], [], PHI),
}
TEMPLATES = Path(find_spec("trl").submodule_search_locations[0]) / "chat_templates"
HARMONY = [
    *("<|return|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>"),
    "<|constrain|>",
]
CHATML = ["<|im_end|>", "<|im_start|>"]
THINKING = {
    "qwen3": (CHATML, MARKUP, QWEN3),
    "special thoughts": ([*CHATML, "<think>", "</think>"], [], QWEN3),
    "gpt-oss": (HARMONY, [], (TEMPLATES / "gptoss.jinja").read_text()),
}


def make_bytes(name):
    """Make a tokenizer over bytes, as those of Llama 3 and Qwen are."""
    special, others, template = (FAMILIES | THINKING)[name]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    return _finish(tokens, special, others, template)


def with_begin(made, begin):
    """Let a tokenizer begin every plain text with a token, as those of Gemma and Llama 3 do."""
    made.add_special_tokens({"bos_token": begin})
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, made.bos_token_id)]
    )
    return made


def make_sentencepiece(name, kind="unigram"):
    """Make a tokenizer in the manner of SentencePiece, whose vocabulary has the control tokens.

    Its model finds them in plain text, whether it is a unigram model or has merges for them.
    """
    special, others, template = FAMILIES[name]
    characters = [chr(i) for i in range(33, 127)] + ["▁", "\n", "é", "你", "好"]
    words = ["<unk>", *special, *(f"<0x{i:02X}>" for i in range(256)), *characters]
    words += ["▁the", "ello", "</", "s>", "<|"] if kind == "unigram" else []
    if kind == "unigram":
        model = models.Unigram([(word, -1.0) for word in words], unk_id=0, byte_fallback=True)
    else:
        vocabulary, merges = _spell(words, special)
        model = models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True)
    tokens = Tokenizer(model)
    tokens.normalizer = normalizers.Replace(" ", "▁")
    tokens.pre_tokenizer = None
    if kind == "unigram":
        tokens.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        tokens.normalizer = None
    tokens.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1 if kind == "unigram" else 0, 0),
        ]
    )
    return _finish(tokens, special, others, template, unk_token="<unk>")


def make_bert(*, normalized=False):
    """Make an encoder's tokenizer that lowers the case.

    With `normalized`, `[cls]` in a text is the control token too.
    """
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    words = [*special, "a", "the", "cat", "[", "]", "cls", "sep", "mask", "pad", "un", "##k", "##s"]
    words += [chr(i) for i in range(97, 123)] + [f"##{chr(i)}" for i in range(97, 123)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokens = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokens.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokens.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokens.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokens.add_special_tokens(
        [
            AddedToken(word, normalized=normalized, lstrip=word == "[MASK]", special=True)
            for word in special
        ]
    )
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="[PAD]", mask_token="[MASK]", **names
    )


def _spell(words, special):
    """Return a vocabulary and the merges that lead from characters to each special token."""
    vocabulary = {word: i for i, word in enumerate(words)}
    merges = []
    for word in special:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary or end == len(word):
                vocabulary.setdefault(word[:end], len(vocabulary))
                merges.append((word[: end - 1], word[end - 1]))
    return vocabulary, list(dict.fromkeys(merges))


def _finish(tokens, special, others, template, **names):
    tokens.add_special_tokens([AddedToken(word, normalized=False) for word in special])
    tokens.add_tokens([AddedToken(word, normalized=False) for word in others])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        eos_token=special[0],
        pad_token=special[0],
        additional_special_tokens=special[1:],
        **names,
    )
    made.chat_template = template
    return made
