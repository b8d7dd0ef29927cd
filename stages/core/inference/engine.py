"""What generates the answers: this process, or a vLLM server that runs for one model and ends before the next one.

vLLM has a Python environment of its own (`make vllm`), because it pins another transformers than this project; only the
child process sees it. Prompts and answers pass as token ids, so that texts are made by the same tokenizer whichever
engine is chosen. Both are greedy, but where two tokens are nearly as likely they may choose differently: all arms of a
comparison have to be answered by the same engine, which is why `engine` is a parameter of every stage that asks.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from stages.core.config.model import VllmEngine
from stages.core.config.schema import Config
from stages.core.environment.processes import ended_by_sigterm
from stages.core.environment.repository import repository_root
from stages.core.errors import UserError
from stages.core.inference.vllm_server import Server
from stages.core.models.base_models import BaseModel
from stages.core.models.loading import get_dtype, get_model, get_tuned_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from stages.core.models.generation import Answer


class Engine(Protocol):
    """One model that answers."""

    def generate(
        self,
        prompts: Sequence[list[int]],
        *,
        max_new_tokens: int,
        title: str | None,
        allowed: Sequence[list[int]] | None = None,
        ignore_eos: bool = False,
    ) -> "list[Answer]":
        """Answer every prompt (token ids) greedily, in the order given, with a progress bar where it has a title.

        Where `allowed` is given, one of these answers (token ids, the end token included) is the only possible one.
        With `ignore_eos` every answer takes all `max_new_tokens`.
        """

    def get_model(self) -> "PreTrainedModel":
        """The same weights in this process, for what needs more than answers. A server ends: no `generate` after it."""


@contextmanager
def get_engine(
    config: Config, base: BaseModel, tokenizer: "PreTrainedTokenizerBase", tuned: Path | None = None
) -> Iterator[Engine]:
    """The engine of `config.engine` with the base model or, where its folder is given, with the tuned one.

    Raises:
        UserError: vLLM is not installed, or its server does not start.
    """
    dtype = config.model.dtype
    load = (
        partial(get_tuned_model, base, dtype, tuned) if tuned else partial(get_model, base, dtype)
    )
    if not isinstance(config.engine, VllmEngine):
        yield Local(load(), tokenizer, config.model.batch_tokens)
        return
    with TemporaryDirectory(prefix="tuneproof-vllm-") as folder, ended_by_sigterm():
        program = _find_program(config.engine)
        weights = _get_weights(base, dtype, tokenizer, tuned, Path(folder, "weights"))
        arguments = [*_get_arguments(config, base, weights), *config.engine.args]
        server = Server([*program, weights, *arguments], Path(folder, "server.log"))
        try:
            server.wait(config.engine.start_seconds)
            yield Vllm(server, tokenizer, config.engine.parallel, load)
        finally:
            server.close()


class Local:
    """Generation in this process."""

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", batch_tokens: int
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._batch_tokens = batch_tokens

    def generate(
        self,
        prompts: Sequence[list[int]],
        *,
        max_new_tokens: int,
        title: str | None,
        allowed: Sequence[list[int]] | None = None,
        ignore_eos: bool = False,
    ) -> "list[Answer]":
        """See `Engine`."""
        from stages.core.models.generation import generate

        return generate(
            self._model,
            self._tokenizer,
            prompts,
            max_new_tokens=max_new_tokens,
            batch_tokens=self._batch_tokens,
            title=title,
            allowed=allowed,
            ignore_eos=ignore_eos,
        )

    def get_model(self) -> "PreTrainedModel":
        """See `Engine`."""
        return self._model


class Vllm:
    """Generation by a server. Our own copy of the model is not in memory while the server holds the GPU."""

    def __init__(
        self,
        server: Server,
        tokenizer: "PreTrainedTokenizerBase",
        parallel: int,
        load: "Callable[[], PreTrainedModel]",
    ) -> None:
        self._server = server
        self._tokenizer = tokenizer
        self._parallel = parallel
        self._load = load

    def generate(
        self,
        prompts: Sequence[list[int]],
        *,
        max_new_tokens: int,
        title: str | None,
        allowed: Sequence[list[int]] | None = None,
        ignore_eos: bool = False,
    ) -> "list[Answer]":
        """See `Engine`. `Answer.seconds` is the wall time of all prompts shared equally, as if they were one batch.

        Raises:
            UserError: the server refused a prompt or went away.
        """
        from tqdm import tqdm

        from stages.core.models.generation import Answer

        choices = None if allowed is None else [self._decode(ids) for ids in allowed]
        started = perf_counter()
        bar = tqdm(total=len(prompts), desc=title, unit="row", mininterval=1, disable=title is None)
        with bar, ThreadPoolExecutor(self._parallel) as pool:
            ask = partial(self._server.complete, choices=choices, ignore_eos=ignore_eos)
            futures = [pool.submit(ask, prompt, max_new_tokens) for prompt in prompts]
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._server.close()  # ends the requests under way, for which the pool waits
                raise
        seconds = (perf_counter() - started) / len(prompts)
        answers = [future.result() for future in futures]
        return [
            Answer(
                self._decode(found.ids),
                len(prompt),
                len(found.ids),
                seconds,
                found.cut,
                tuple(found.ids),
            )
            for prompt, found in zip(prompts, answers, strict=True)
        ]

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def get_model(self) -> "PreTrainedModel":
        """See `Engine`."""
        return self._model

    @cached_property
    def _model(self) -> "PreTrainedModel":
        self._server.close()
        return self._load()


def _find_program(engine: VllmEngine) -> list[str]:
    name, *rest = engine.command
    program = shutil.which(name) or shutil.which(
        repository_root() / name
    )  # not in the copy of a queued experiment
    if not program:
        raise UserError(
            f"engine.command: there is no {name}: run `make vllm`, or choose engine=transformers"
        )
    return [program, *rest]


def _get_arguments(config: Config, base: BaseModel, weights: str) -> list[str]:
    arguments = ["--dtype", str(get_dtype(config.model.dtype)).removeprefix("torch.")]
    arguments += ["--max-model-len", str(config.model.max_length), "--enable-prefix-caching"]
    arguments += [
        "--generation-config",
        "vllm",
    ]  # the model's end tokens, but no penalties of it: as with our own
    arguments += ["--seed", str(config.seed)]
    arguments += ["--revision", base.revision] if base.revision and weights == base.path else []
    return [*arguments, "--trust-remote-code"] if base.trust_remote_code else arguments


def _get_weights(
    base: BaseModel,
    dtype: str,
    tokenizer: "PreTrainedTokenizerBase",
    tuned: Path | None,
    target: Path,
) -> str:
    """What the server loads: the base model, a whole tuned one, or an adapter merged as `get_tuned_model` merges it."""
    if not tuned or not (tuned / "adapter_config.json").exists():
        return str(tuned or base.path)
    import torch

    get_tuned_model(base, dtype, tuned).save_pretrained(target)
    tokenizer.save_pretrained(target)
    torch.cuda.empty_cache()  # the GPU is the server's now
    return str(target)
