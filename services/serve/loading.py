"""Load a registered version, if its files are those that were measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.serve.classifier import Classifier
from services.serve.continuous import start_engine
from services.serve.models import ChatModel, get_limit
from services.serve.settings import ServeConfig
from services.serve.vllm import start_vllm
from stages.core.config.train import ANSWERING, CLASSIFYING
from stages.core.data.end_tokens import get_end_ids
from stages.core.errors import UserError
from stages.core.models.base_models import ModelFiles, list_ids
from stages.core.models.classifier import MODEL_CLASSES
from stages.core.models.generation import end_tokens
from stages.core.models.loading import get_device, get_saved_dtype, get_tokenizer
from stages.core.models.pretrained import CAUSAL, load_pretrained
from stages.core.tracking.version_files import (
    FILES_SHA256,
    MODEL,
    TOKENIZER,
    check_artifact,
    fetch_model,
    release_model,
)
from stages.core.tracking.versions import Version, find_version, read_asked

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class Served:
    """A version that is loaded."""

    version: Version
    model: ChatModel | Classifier
    sha256: str
    """The hash of its files, see `stages.core.tracking.version_files.hash_artifact`."""
    folder: Path
    """The folder with its files."""
    in_use: int = 0
    """How many requests it is answering."""

    @property
    def name(self) -> str:
        """The name that every answer carries, `<name>/<version>`."""
        return f"{self.version.name}/{self.version.number}"

    def stop(self) -> None:
        """Stop the model, and remove its files if they were downloaded."""
        self.model.stop()
        release_model(self.folder)


def load(client: "MlflowClient", settings: ServeConfig) -> Served:
    """Find the version, compare its files with their hash, and load it.

    Raises:
        UserError: There is no such version, it is not what was measured, or it cannot be loaded.
    """
    version = find_version(client, settings.model)
    folder = fetch_model(version.uri)
    try:
        check_artifact(version, folder)
        model = _load_model(version, folder, settings)
    except BaseException:
        release_model(folder)
        raise
    return Served(version, model, version.tags[FILES_SHA256], folder)


def _load_model(version: Version, folder: Path, settings: ServeConfig) -> ChatModel | Classifier:
    asked = read_asked(str(folder))
    method = asked["method"]
    if method not in (*ANSWERING, *CLASSIFYING):
        raise UserError(f"{version.uri}: a model of the method {method} neither answers nor labels")
    chats = method in ANSWERING
    tokenizer = get_tokenizer(ModelFiles(str(folder / TOKENIZER), None, None), chats=chats)
    if chats:
        return _load_chat_model(folder, tokenizer, asked, settings)
    weights = _load_weights(folder, settings, MODEL_CLASSES[method])
    return Classifier(weights, tokenizer, method, get_limit(asked, settings))


def _load_chat_model(
    folder: Path, tokenizer: "PreTrainedTokenizerBase", asked: dict[str, Any], settings: ServeConfig
) -> ChatModel:
    import torch
    from transformers import GenerationConfig

    limit = get_limit(asked, settings)
    if settings.engine == "vllm" or (settings.engine == "auto" and torch.cuda.is_available()):
        written = GenerationConfig.from_pretrained(str(folder / MODEL))
        ends = get_end_ids(tokenizer) | list_ids(written.eos_token_id)
        files = ["--tokenizer", str(folder / TOKENIZER), "--dtype", _get_dtype(folder, settings)]
        served = start_vllm([str(folder / MODEL), *files], limit, ends, settings)
        return ChatModel(served, tokenizer, asked, ends, settings)
    weights = _load_weights(folder, settings, CAUSAL)
    ends = end_tokens(weights, tokenizer)
    engine = start_engine(weights, tokenizer, limit, settings)
    try:
        return ChatModel(engine, tokenizer, asked, ends, settings)
    except BaseException:
        engine.stop()  # else its thread would keep the process alive
        raise


def _load_weights(folder: Path, settings: ServeConfig, kind: str) -> "PreTrainedModel":
    import torch

    files = ModelFiles(str(folder / MODEL), None, None)
    dtype = getattr(torch, _get_dtype(folder, settings))
    return load_pretrained(files, dtype, kind).to(get_device()).eval()


def _get_dtype(folder: Path, settings: ServeConfig) -> str:
    if settings.dtype == "float32":
        return "float32"
    return get_saved_dtype(folder / MODEL)
