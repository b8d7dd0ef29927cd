"""Check that the model in MLflow, loaded back, is the model that was evaluated."""

from typing import Any

from stages.core.config.schema import Config
from stages.core.config.train import CLASSIFYING
from stages.core.data.prompts import build_prompt, encode_prompt
from stages.core.data.records import read_records
from stages.core.models.base_models import ModelFiles
from stages.core.models.candidates import Candidate
from stages.core.models.classifier import get_limit, load_classifier, read_texts
from stages.core.models.loading import get_tokenizer, get_tuned_model
from stages.register.condition import Condition

PROBES = 4  # prompts whose logits are compared
DEFECT = "So it is not what was measured. Try again; if it happens again, report it as a defect"


def load_candidate(candidate: Candidate, dtype: str) -> tuple[Any, Any]:
    """Load the tuned model and its tokenizer.

    Args:
        candidate: The candidate.
        dtype: The type of the weights that were measured. With `model.dtype=auto` this machine may
            prefer another one.
    """
    from stages.core.models.generation import add_end_tokens

    model_config = candidate.config.model.model_copy(update={"dtype": dtype})
    config = candidate.config.model_copy(update={"model": model_config})
    folder = candidate.get_folder()
    base = candidate.get_base()
    if config.train.method in CLASSIFYING:
        return load_classifier(config, folder)
    tokenizer = get_tokenizer(ModelFiles(str(folder), None, None))
    model = get_tuned_model(base, config.model.dtype, folder)
    add_end_tokens(model, tokenizer)
    return model, tokenizer


def get_probes(config: Config, tokenizer: Any) -> list[list[int]]:
    """Encode the prompts of the first few test rows."""
    records = read_records("test")[:PROBES]
    if config.train.method in CLASSIFYING:
        return [
            reading.ids
            for reading in read_texts(tokenizer, [r.question for r in records], get_limit(config))
        ]
    return [
        encode_prompt(tokenizer, build_prompt(r, config.prompt.tuned_system_prompt))
        for r in records
    ]


def check_round_trip(
    model_uri: str, model: Any, tokenizer: Any, prompts: list[list[int]]
) -> Condition:
    """Load the logged model back and require the logits and the template of the evaluated model.

    If the chat template or any logit differs, the artifact is not the model that was measured.
    """
    import mlflow
    import torch

    name = "round_trip"
    loaded = mlflow.transformers.load_model(model_uri, return_type="components")
    # The dtype stays the one it was saved in, as for anyone else who loads the model.
    back = loaded["model"].to(model.device).eval()
    if loaded["tokenizer"].chat_template != tokenizer.chat_template:
        why = f"the logged model has a different chat template after loading. {DEFECT}"
        return Condition(name, False, why)
    gaps = []
    with torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([prompt], device=model.device)
            logits = (model(ids).logits, back(ids).logits)
            if not torch.equal(*logits):
                gaps.append(float((logits[0] - logits[1]).abs().max()))
    if gaps:
        largest = max(gaps)
        why = (
            f"the logged model has different logits after loading, by up to {largest:.2g}. {DEFECT}"
        )
        return Condition(name, False, why, largest, limit=0.0)
    sentence = f"the logged model has the same logits for {len(prompts)} prompts after loading"
    return Condition(name, True, sentence, 0.0, limit=0.0)
