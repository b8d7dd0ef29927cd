"""Compare what llama.cpp answers from a GGUF file with the registered model."""

from collections.abc import Sequence
from pathlib import Path

from stages.core.data.control_tokens import get_control_tokens
from stages.core.data.groups import get_groups
from stages.core.data.marks import is_marked
from stages.core.data.predictions import Prediction
from stages.core.data.records import Record
from stages.core.data.thoughts import decode_answer, read_answer
from stages.core.errors import UserError
from stages.core.metrics.metrics import Metrics
from stages.core.statistics.bounds import difference
from stages.core.storage.files import read_json
from stages.register.champion import ANSWERS
from tools.export.llama_cpp import INSTALL, LlamaCpp, is_installed, llama_cpp
from tools.export.merged import check_ids
from tools.export.options import ExportOptions
from tools.export.proof import Proof
from tools.export.source import Source

ARM = "export"
QUANTIZED = ("q8_0",)
"""The types of which another answer than the registered model's is expected."""


def check_answers(
    source: Source, file: Path, quantization: str, options: ExportOptions
) -> list[Proof]:
    """Check the prompts and the answers of llama.cpp on the test rows.

    A sample of answers is compared with those of the registered weights in float32. If the type is a
    quantized one, or an answer of the sample differs, then llama.cpp answers all test rows, and the
    loss of the primary metric is bounded.

    Raises:
        UserError: A prompt differs, the loss may be above the limit, or a quantized file cannot be
            checked here.
    """
    quantized = quantization in QUANTIZED
    why = source.no_rows if source.rows is None else _explain_missing()
    if source.rows is None or why:
        if quantized:
            raise UserError(
                f"quantization={quantization} changes the answers, and by how much was {why}. Without "
                "quantization the weights are proved to be the registered ones"
            )
        return [Proof("answers", False, why)]
    with llama_cpp(file, source.asked["max_length"]) as server:
        proofs = [_check_prompts(source, server)]
        sample, equal = _check_sample(source, server, options.sample)
        proofs.append(sample)
        if quantized or not equal:
            proofs.append(_check_metric(source, server, options.max_drift))
    return proofs


def _explain_missing() -> str:
    if is_installed():
        return ""
    return f"not checked, because llama.cpp's server is not installed: {INSTALL}"


def _check_prompts(source: Source, server: LlamaCpp) -> Proof:
    """Compare the prompts of all rows as llama.cpp renders and encodes them for a chat."""
    rows = source.rows or []
    control = get_control_tokens(source.tokenizer)
    # llama.cpp reads a control token in a text as one, and Tuneproof reads it as text.
    plain = [row for row in rows if not is_marked(str(control.mark_chat(source.build(row))))]
    ours = source.encode(source.tokenizer, plain)
    theirs = [server.tokenize(source.build(row), row.tools) for row in plain]
    check_ids(plain, ours, theirs, "llama.cpp")
    left_out = len(rows) - len(plain)
    sentence = f"llama.cpp renders and encodes the prompts of {len(plain)} test rows alike"
    if left_out:
        sentence += f"; left out: {left_out} whose texts spell a control token, which it obeys"
    return Proof("prompts", True, sentence, {"rows": len(plain), "left_out": left_out})


def _check_sample(source: Source, server: LlamaCpp, count: int) -> tuple[Proof, bool]:
    """Compare the answers to some rows with those of the registered weights in float32."""
    from stages.core.models.generation import generate

    rows = source.rows or []
    sample = rows[:: max(1, len(rows) // count)][:count]
    prompts = source.encode(source.tokenizer, sample)
    limit = source.asked["max_new_tokens"]
    ours = generate(
        source.load_model().float(),
        source.tokenizer,
        prompts,
        max_new_tokens=limit,
        max_batch_tokens=source.config.model.max_batch_tokens,
        title=None,
    )
    theirs = [decode_answer(source.tokenizer, server.complete(prompt, limit)) for prompt in prompts]
    equal = sum(a.text == b for a, b in zip(ours, theirs, strict=True))
    sentence = (
        f"llama.cpp's answers to {equal} of {len(sample)} test rows equal those of the registered "
        "weights in float32"
    )
    numbers = {"rows": len(sample), "equal": equal}
    return Proof("answers", equal == len(sample), sentence, numbers), equal == len(sample)


def _check_metric(source: Source, server: LlamaCpp, max_drift: float) -> Proof:
    """Bound the loss of the primary metric against the evaluated answers of all test rows.

    Raises:
        UserError: The loss may be above the limit.
    """
    rows = source.rows or []
    metric = source.version.tags["primary_metric"]
    settings = source.config.evaluate
    kept = read_json(source.folder / ANSWERS)
    old = [Prediction(row.id, ARM, kept[row.id], 0, 0) for row in rows]
    new = _ask(source, server, rows)
    metrics = Metrics([metric], {metric: settings.options.get(metric, {})})
    ours, theirs = (metrics.score_records(answers, rows)[metric] for answers in (new, old))
    gap = difference(ours, theirs, settings.confidence, get_groups(rows))
    equal = sum(a.text == b.text for a, b in zip(new, old, strict=True))
    sentence = (
        f"{metric} {ours.value:.3f} instead of the evaluated {theirs.value:.3f} on all {len(rows)} "
        f"test rows, of which {equal} have the same answer: a difference of {gap.value:+.3f}, with "
        f"{settings.confidence:.4g} confidence at least {gap.bound_low:+.3f}"
    )
    if gap.bound_low < -max_drift:
        raise UserError(
            f"{sentence}. max_drift={max_drift:g} requires at least {-max_drift:+.3f}, so nothing was "
            "exported. Choose another quantization, more test rows, or a larger max_drift"
        )
    numbers = {
        "rows": len(rows),
        "equal": equal,
        "value": ours.value,
        "evaluated": theirs.value,
        "difference": gap.value,
        "bound_low": gap.bound_low,
        "max_drift": max_drift,
    }
    return Proof("metric", True, f"{sentence}; the limit is {-max_drift:+.3f}", numbers)


def _ask(source: Source, server: LlamaCpp, rows: Sequence[Record]) -> list[Prediction]:
    """Let llama.cpp answer rows as the version was asked."""
    from tqdm import tqdm

    limit = source.asked["max_new_tokens"]
    prompts = source.encode(source.tokenizer, rows)
    found = []
    pairs = zip(rows, prompts, strict=True)
    for row, prompt in tqdm(pairs, "llama.cpp", len(rows), unit="row", mininterval=1):
        ids = server.complete(prompt, limit)
        text = decode_answer(source.tokenizer, ids)
        answer = read_answer(source.tokenizer, prompt, text, row.target)
        found.append(Prediction(row.id, ARM, answer, len(prompt), len(ids)))
    return found
