"""Register trained models of the tests, export the versions, and load both as others would."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stages.core.config.schema import Config
from stages.core.data.records import PREPARED
from stages.core.models.candidates import Candidate, get_candidate
from stages.core.models.generation import generate
from stages.core.models.loading import weights_sha256
from stages.core.storage.files import read_json, sha256_file
from stages.core.tracking.runs import PREFIX
from stages.core.tracking.tracker import Tracker
from stages.register import registry, round_trip
from tools.export.__main__ import export
from tools.export.options import ExportOptions
from tools.export.source import Source, open_source

REPORT = {"lineage": {"data_sha256": {"test": "0" * 64}}, "arms": {"tuned": {}}}


def trace_back(candidate: Candidate, _: Any) -> dict[str, str]:
    """Return the tags that an export reads, because there is no verdict to trace back to."""
    base = read_json(candidate.get_folder() / "training.json")["base_model"]
    tags = {
        "base_model": base["name"],
        "base_model_sha256": base["sha256"],
        "model_sha256": weights_sha256(candidate.get_folder()),
        "test_sha256": sha256_file(PREPARED / "test.jsonl"),
    }
    return {f"{PREFIX}{key}": value for key, value in tags.items()}


@dataclass(frozen=True)
class Registered:
    """A version, and what the trained model of which it was made reads and says."""

    source: Source
    probe: list[int]
    """The prompt of a test row."""
    logits: torch.Tensor
    """Those of the trained model for the prompt."""

    def export(self, kind: str, folder: Path) -> None:
        """Export the version, and check that all of it was proved."""
        options = ExportOptions(model=self.source.version.uri, format=kind)
        proofs = export(self.source, options, folder)
        found = {proof.what: proof.proved for proof in proofs}
        assert found == {"files": True, "tensors": True, "tokens": True}

    def check_export(self, kind: str, folder: Path, base: Path) -> None:
        """Export the version, and compare the logits of what is loaded with the trained model's."""
        from peft import PeftModel

        self.export(kind, folder)
        back = load(base if kind == "adapter" else folder)
        if kind == "adapter":
            back = PeftModel.from_pretrained(back, folder).merge_and_unload()
        assert torch.equal(read(back, self.probe), self.logits)


def register(config: Config, tracker: Tracker, folder: Path) -> Registered:
    """Log the saved model as `register` does, load it without Tuneproof and MLflow, and register it."""
    import mlflow

    candidate = get_candidate(config, "tuned")
    model, tokenizer = round_trip.load_candidate(candidate, config.model.dtype)
    info = registry.log_model(candidate, model, tokenizer, tracker, REPORT)
    probes = round_trip.get_probes(config, tokenizer)
    assert round_trip.check_round_trip(info.model_uri, model, tokenizer, probes).passed
    folder.mkdir()
    logged = mlflow.artifacts.download_artifacts(info.model_uri, dst_path=str(folder))
    back = load(Path(logged, "model"))
    logits = read(model, probes[0])
    assert torch.equal(read(back, probes[0]), logits)
    [answer] = generate(
        model, tokenizer, probes[:1], max_new_tokens=4, max_batch_tokens=4096, title=None
    )
    assert list(answer.ids) == decode(back, probes[0])
    tags = mlflow.MlflowClient().get_logged_model(info.model_id).tags
    version = mlflow.register_model(info.model_uri, config.register_.name, tags=tags)
    source = open_source(f"{version.name}/{version.version}", config)
    return Registered(source, probes[0], logits)


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


@torch.inference_mode()
def read(model: Any, prompt: list[int]) -> torch.Tensor:
    return model(torch.tensor([prompt])).logits


def decode(model: Any, prompt: list[int]) -> list[int]:
    """Return four tokens that transformers answers."""
    ids = torch.tensor([prompt])
    return model.generate(ids, max_new_tokens=4, do_sample=False)[0, ids.shape[1] :].tolist()
