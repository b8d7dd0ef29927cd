"""Generate answers in this process or with a vLLM server.

A vLLM server runs for one model and ends before the next one starts. vLLM has its own Python
environment (`make vllm`), because it pins another version of transformers than this project. Only
the child process uses that environment.

Prompts and answers are exchanged as token ids, so the same tokenizer encodes and decodes the texts
for both engines. Both decode greedily, but they may choose differently between two tokens of nearly
equal likelihood. All arms of a comparison therefore have to use the same engine, which is why
`engine` is a parameter of every stage that generates answers.
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

from stages.core.config.model import VllmEngineConfig
from stages.core.config.schema import Config
from stages.core.data.end_tokens import get_end_ids
from stages.core.data.thoughts import decode_answer
from stages.core.environment.processes import ended_by_sigterm
from stages.core.environment.repository import repository_root
from stages.core.errors import UserError
from stages.core.inference.vllm_server import Server
from stages.core.models.base_models import ModelFiles
from stages.core.models.loading import get_dtype, get_model, get_tuned_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from stages.core.models.generation import Answer


class Engine(Protocol):
    """A model that answers prompts."""

    def generate(
        self,
        prompts: Sequence[list[int]],
        *,
        max_new_tokens: int,
        title: str | None,
        allowed: Sequence[list[int]] | None = None,
        ignore_eos: bool = False,
    ) -> "list[Answer]":
        """Answer every prompt greedily, in the given order.

        Args:
            prompts: Token ids.
            max_new_tokens: The limit of each answer.
            title: The title of the progress bar; None shows no bar.
            allowed: Token ids of the only allowed answers, each including the end token.
            ignore_eos: Whether every answer takes all `max_new_tokens`.
        """

    def get_model(self) -> "PreTrainedModel":
        """Get the same weights as a model in this process, for uses that need more than answers.

        This stops a server, so `generate` must not be called afterwards.
        """


@contextmanager
def get_engine(
    config: Config,
    base: ModelFiles,
    tokenizer: "PreTrainedTokenizerBase",
    tuned: Path | None = None,
) -> Iterator[Engine]:
    """Start the engine that `config.engine` names.

    It loads the tuned model if its folder `tuned` is given, and the base model otherwise.

    Raises:
        UserError: VLLM is not installed, or its server does not start.
    """
    dtype = config.model.dtype
    load = (
        partial(get_tuned_model, base, dtype, tuned) if tuned else partial(get_model, base, dtype)
    )
    if not isinstance(config.engine, VllmEngineConfig):
        yield TransformersEngine(load(), tokenizer, config.model.max_batch_tokens)
        return
    with TemporaryDirectory(prefix="tuneproof-vllm-") as folder, ended_by_sigterm():
        program = find_program(config.engine)
        weights = _get_weights(base, dtype, tokenizer, tuned, Path(folder, "weights"))
        arguments = [*_get_arguments(config, base, weights), *config.engine.args]
        server = Server([*program, weights, *arguments], Path(folder, "server.log"))
        try:
            server.wait(config.engine.startup_timeout)
            yield VllmEngine(server, tokenizer, config.engine.max_concurrency, load)
        finally:
            server.close()


class TransformersEngine:
    """Generate answers in this process."""

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", max_batch_tokens: int
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._batch_tokens = max_batch_tokens

    def generate(
        self,
        prompts: Sequence[list[int]],
        *,
        max_new_tokens: int,
        title: str | None,
        allowed: Sequence[list[int]] | None = None,
        ignore_eos: bool = False,
    ) -> "list[Answer]":
        """Answer every prompt as `Engine.generate` describes."""
        from stages.core.models.generation import generate

        return generate(
            self._model,
            self._tokenizer,
            prompts,
            max_new_tokens=max_new_tokens,
            max_batch_tokens=self._batch_tokens,
            title=title,
            allowed=allowed,
            ignore_eos=ignore_eos,
        )

    def get_model(self) -> "PreTrainedModel":
        """Get the model as `Engine.get_model` describes."""
        return self._model


class VllmEngine:
    """Generate answers with a vLLM server.

    This process does not load its own copy of the model while the server holds the GPU.
    """

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
        """Answer every prompt as `Engine.generate` describes.

        `Answer.seconds` is the wall time of all prompts divided by their number, as if they were
        one batch.

        Raises:
            UserError: The server rejected a prompt or stopped responding.
        """
        from tqdm import tqdm

        from stages.core.models.generation import Answer

        choices = (
            None
            if allowed is None
            else [self._tokenizer.decode(ids, skip_special_tokens=True) for ids in allowed]
        )
        started = perf_counter()
        bar = tqdm(total=len(prompts), desc=title, unit="row", mininterval=1, disable=title is None)
        with bar, ThreadPoolExecutor(self._parallel) as pool:
            ends = get_end_ids(self._tokenizer)
            ask = partial(self._server.complete, choices=choices, ignore_eos=ignore_eos, ends=ends)
            futures = [pool.submit(ask, prompt, max_new_tokens) for prompt in prompts]
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._server.close()  # ends the open requests that the pool waits for
                raise
        seconds = (perf_counter() - started) / len(prompts)
        answers = [future.result() for future in futures]
        return [
            Answer(
                decode_answer(self._tokenizer, found.ids),
                len(prompt),
                len(found.ids),
                seconds,
                found.cut,
                tuple(found.ids),
            )
            for prompt, found in zip(prompts, answers, strict=True)
        ]

    def get_model(self) -> "PreTrainedModel":
        """Get the model as `Engine.get_model` describes."""
        return self._model

    @cached_property
    def _model(self) -> "PreTrainedModel":
        self._server.close()
        return self._load()


def find_program(engine: VllmEngineConfig) -> list[str]:
    """Return the command that starts vLLM, with the path of its program.

    Raises:
        UserError: It is not installed.
    """
    name, *rest = engine.command
    # A queued experiment runs in a copy of the repository, which lacks the environment of vLLM.
    program = shutil.which(name) or shutil.which(repository_root() / name)
    if not program:
        raise UserError(
            f"engine.command: found no {name}. Run `make vllm`, or set engine=transformers"
        )
    return [program, *rest]


def _get_arguments(config: Config, base: ModelFiles, weights: str) -> list[str]:
    arguments = ["--dtype", str(get_dtype(config.model.dtype)).removeprefix("torch.")]
    arguments += ["--max-model-len", str(config.model.max_length), "--enable-prefix-caching"]
    # As in the engine of this process, the model's end tokens apply, but not its penalties.
    arguments += ["--generation-config", "vllm"]
    arguments += ["--seed", str(config.seed)]
    arguments += ["--revision", base.revision] if base.revision and weights == base.path else []
    return [*arguments, "--trust-remote-code"] if base.trust_remote_code else arguments


def _get_weights(
    base: ModelFiles,
    dtype: str,
    tokenizer: "PreTrainedTokenizerBase",
    tuned: Path | None,
    target: Path,
) -> str:
    """Get the path of the weights that the server loads.

    That is the base model, a whole tuned model, or an adapter that `get_tuned_model` has merged.
    """
    if not tuned or not (tuned / "adapter_config.json").exists():
        return str(tuned or base.path)
    import torch

    get_tuned_model(base, dtype, tuned).save_pretrained(target)
    tokenizer.save_pretrained(target)
    torch.cuda.empty_cache()  # the server needs the GPU memory
    return str(target)
