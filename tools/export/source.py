"""The registered version that is exported, and the test rows with which it is checked."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.config.schema import Config
from stages.core.config.train import CLASSIFYING
from stages.core.data.prompts import build_prompt, encode_prompt
from stages.core.data.records import PREPARED, Message, Record
from stages.core.errors import UserError
from stages.core.models.base_models import ModelFiles
from stages.core.models.classifier import MODEL_CLASSES, read_texts
from stages.core.models.loading import get_saved_dtype, get_tokenizer
from stages.core.models.pretrained import CAUSAL, load_pretrained
from stages.core.storage.files import read_jsonl
from stages.core.tracking.version_files import MODEL, TOKENIZER, fetch_checked
from stages.core.tracking.versions import Version, complete, connect, find_version, read_asked
from stages.register.origin import CONFIG
from stages.register.promotion import CARD
from tools.verify.recorded import Recorded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Source:
    """A registered version whose files are those that were registered."""

    version: Version
    folder: Path
    """The files of the version, which must not be changed."""
    asked: Mapping[str, Any]
    """See `stages.core.tracking.versions.read_asked`."""
    card: str
    """The model card, as Markdown."""
    recorded: Recorded
    """What was recorded of its origin."""

    @property
    def classifies(self) -> bool:
        """Whether the model is a classifier, which reads texts instead of chats."""
        return self.asked["method"] in CLASSIFYING

    @property
    def kind(self) -> str:
        """The auto class of transformers that loads the model."""
        return MODEL_CLASSES.get(self.asked["method"], CAUSAL)

    @cached_property
    def dtype(self) -> str:
        """The type of the weights, such as `bfloat16`."""
        return get_saved_dtype(self.folder / MODEL)

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The registered tokenizer."""
        return self.load_tokenizer(self.folder / TOKENIZER)

    def load_tokenizer(self, folder: Path) -> "PreTrainedTokenizerBase":
        """Load a tokenizer as the stages do."""
        return get_tokenizer(ModelFiles(str(folder), None, None), chats=not self.classifies)

    def load_model(self, folder: Path | None = None) -> "PreTrainedModel":
        """Load the registered model, or the one in a folder, in its own type on the CPU."""
        import torch

        files = ModelFiles(str(folder or self.folder / MODEL), None, None)
        return load_pretrained(files, getattr(torch, self.dtype), self.kind).eval()

    @cached_property
    def config(self) -> Config:
        """The configuration of the version, or that of the workspace if it was not recorded.

        Raises:
            UserError: This version of Tuneproof does not accept the recorded configuration.
        """
        known = (self.recorded.origin / CONFIG).exists()
        return self.recorded.candidate.run if known else self.recorded.current

    @cached_property
    def rows(self) -> Sequence[Record] | None:
        """The test rows on which the version was measured, or None if they are not here."""
        path = None
        with suppress(UserError):  # this folder is no repository of DVC
            path = self.recorded.places.find(
                str(PREPARED / "test.jsonl"), self.version.tags.get("test_sha256", "")
            )
        return [Record(**row) for row in read_jsonl(path)] if path else None

    @property
    def no_rows(self) -> str:
        """Why nothing was checked on test rows, if they are not here."""
        commit = self.version.tags.get("git_commit", "unknown")[:12]
        return (
            "not checked, because the test rows on which the version was measured are neither in "
            f"{PREPARED / 'test.jsonl'} nor in DVC's cache. `dvc checkout` at commit {commit} restores "
            "them"
        )

    def build(self, record: Record) -> list[Message]:
        """Build the prompt of a row as it was evaluated."""
        return build_prompt(record, self.asked["system_prompt"])

    def encode(
        self, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Record]
    ) -> list[list[int]]:
        """Encode the prompts of rows, or the texts that a classifier reads."""
        if self.classifies:
            texts = [record.question for record in rows]
            return [text.ids for text in read_texts(tokenizer, texts, self.asked["max_length"])]
        return [encode_prompt(tokenizer, self.build(row), row.tools) for row in rows]


def open_source(reference: str, config: Config) -> Source:
    """Find a version, fetch its files, and check that they are those that were registered.

    Args:
        reference: See `stages.core.tracking.versions.complete`.
        config: The configuration of the workspace.

    Raises:
        UserError: There is no such version, or its files were changed.
    """
    client = connect(config.tracking)
    version = find_version(client, complete(reference, config.register_.name))
    asked = read_asked(version.uri)
    folder = fetch_checked(version)
    if (folder / CARD).exists():
        card = (folder / CARD).read_text(encoding="utf-8")
    else:  # of an earlier version of Tuneproof
        card = client.get_model_version(version.name, version.number).description or ""
    return Source(version, folder, asked, card, Recorded(version, folder, config))
