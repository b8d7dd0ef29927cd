"""Write the Modelfile with which Ollama asks a GGUF file as it was evaluated."""

from pathlib import Path
from typing import Any

from stages.core.storage.files import atomic_write
from tools.export.go_template import NoTranslationError, translate
from tools.export.merged import get_end_tokens
from tools.export.proof import Proof
from tools.export.source import Source

MODELFILE = "Modelfile"
QUOTES = '"""'


def write_modelfile(source: Source, file: Path) -> Proof:
    """Write the Modelfile beside a GGUF file, and say whether it has a chat template.

    Ollama otherwise guesses a template of its own from that of the file.
    """
    system = source.asked["system_prompt"]
    tokenizer = source.tokenizer
    parts = [f"FROM ./{file.name}"]
    try:
        template = translate(tokenizer, system, _get_added(file, tokenizer))
        parts.append(f"TEMPLATE {QUOTES}{template}{QUOTES}")
        sentence = (
            "the TEMPLATE of the Modelfile renders chats of six forms as the chat template does"
        )
    except NoTranslationError as error:
        template = None
        sentence = (
            f"the Modelfile has no TEMPLATE, because the chat template is more than text around "
            f"messages: {error}. Write one by hand, or use llama.cpp's server, which reads the chat "
            "template itself"
        )
    if system and QUOTES not in system:
        parts.append(f"SYSTEM {QUOTES}{system}{QUOTES}")
    elif system:
        sentence += '; SYSTEM is left out, because the system message has """ in it'
    ends = tokenizer.convert_ids_to_tokens(sorted(get_end_tokens(source)))
    parameters: list[tuple[str, Any]] = [
        ("temperature", 0),
        ("repeat_penalty", 1),  # Ollama's own changes greedy answers
        ("num_predict", source.asked["max_new_tokens"]),
        ("num_ctx", source.asked["max_length"]),
        *(("stop", f'"{end}"') for end in ends),
    ]
    parts += [f"PARAMETER {name} {value}" for name, value in parameters]
    atomic_write(file.parent / MODELFILE, ("\n".join(parts) + "\n").encode())
    return Proof("Modelfile", template is not None, sentence)


def _get_added(file: Path, tokenizer: Any) -> str:
    """Return the token that a reader of the file writes before each prompt by itself."""
    from gguf import GGUFReader

    field = GGUFReader(file).fields.get("tokenizer.ggml.add_bos_token")
    return str(tokenizer.bos_token or "") if field is not None and field.contents() else ""
