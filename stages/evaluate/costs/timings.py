"""What this machine takes for a token, measured in one place at one time, so that the same rates price all arms.

The seconds that the arms' own passes took are no ground for a comparison: the prompted arms answer in another stage, on
another day, or on another machine where DVC takes their answers from its cache. Here one engine computes made-up
prompts of fixed lengths, several times over. An arm's time then follows from its numbers of tokens, and a machine that
is slow today is slow for all arms alike. The rounds differ by what else the machine does; the bounds of costs hold that
spread.
"""

import time
from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from stages.core.config.schema import Config
from stages.core.data.predictions import PREDICTIONS
from stages.core.storage.files import read_json, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from stages.core.inference.engine import Engine

TIMINGS = PREDICTIONS / "timings.json"
SHORT = 64
LONG = 256  # tokens of context at which an answer's tokens are timed
FRESH_PROMPTS = 2  # of LONG tokens, to time prompts: they fill the cores of a CPU; a GPU takes a whole batch of them
STEPS = 4  # tokens of an answer that are timed
BASE = "base"


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds of the whole machine, at one number of requests at a time."""

    prompt_token: float
    """A prompt's token that has to be computed."""
    cached_token: float
    """A prompt's token that a prefix cache holds."""
    output_token: float
    """An answer's token without what stands before it."""
    output_token_context: float
    """What each token before it adds to that."""


Rounds = list[dict[str, Rates]]
"""For each repeat the rates of `batches` and of `server`."""


def time_engine(engine: "Engine", tokenizer: "PreTrainedTokenizerBase", config: Config) -> Rounds:
    """Time a model that generates; one more round comes first and is thrown away, for it warms caches up.

    In each round: prompts of `LONG` tokens without anything in common, answered with one token, give the seconds of a
    prompt's token. Prompts that share all tokens but their last are answered with one token and with 1 + `STEPS`: the
    difference is that of the answers' tokens, once after `SHORT` and once after `LONG` tokens of context. What a
    longer common prefix adds to answers of one token, beyond computing it once, is the price of its reuse. On a noisy
    machine one of these differences may come out below zero; it stays so, for cut off at zero the mean of the rounds
    would be too high, and an arm with a long prefix would look too dear.
    """
    import torch

    machine = config.evaluate.prices.machine
    random = Random(config.seed)
    long = min(LONG, config.model.max_length - STEPS - 2)
    short = long * SHORT // LONG
    most = max(
        1, config.model.batch_tokens // (long + STEPS + 2)
    )  # the engine would cut a larger batch in two
    levels = {
        "batches": min(machine.batch_size, most),
        "server": min(machine.concurrent_requests, most),
    }
    prompts = levels["batches"] if torch.cuda.is_available() else FRESH_PROMPTS
    ids = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))

    def generate(rows: int, common: int, own: int, steps: int) -> float:
        """Seconds of so many new prompts of `common + own` tokens."""
        prefix = random.choices(ids, k=common)
        starts = random.sample(ids, rows)  # no two prompts go on alike
        asked = [[*prefix, start, *random.choices(ids, k=own - 1)] for start in starts]
        started = time.perf_counter()
        engine.generate(asked, max_new_tokens=steps, title=None, ignore_eos=True)
        return time.perf_counter() - started

    def measure() -> dict[str, Rates]:
        fresh = generate(prompts, 0, long, 1) / (prompts * long)
        found = {}
        for level, rows in levels.items():
            first = {context: generate(rows, context, 1, 1) for context in (short, long)}
            steps = {
                context: (generate(rows, context, 1, 1 + STEPS) - first[context]) / (rows * STEPS)
                for context in (short, long)
            }
            more = first[long] - first[short] - fresh * (long - short)
            slope = (steps[long] - steps[short]) / (long - short)
            reuse = more / (rows * (long - short))
            found[level] = Rates(fresh, reuse, steps[short] - slope * short, slope)
        return found

    measure()
    return [measure() for _ in range(machine.repeats)]


def time_classifier(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: Config
) -> Rounds:
    """Time a classifier, whose answer costs what reading the text costs."""
    from stages.core.inference.classifying import choose
    from stages.core.models.classifier import Reading

    machine = config.evaluate.prices.machine
    random = Random(config.seed)
    levels = {"batches": machine.batch_size, "server": machine.concurrent_requests}

    def measure(rows: int) -> Rates:
        texts = [
            Reading(random.choices(range(len(tokenizer)), k=SHORT), [], cut=False)
            for _ in range(rows)
        ]
        started = time.perf_counter()
        choose(model, tokenizer, texts)
        token = (time.perf_counter() - started) / (rows * SHORT)
        return Rates(token, token, 0.0, 0.0)  # an encoder has no prefix to reuse

    rounds = [
        {level: measure(rows) for level, rows in levels.items()} for _ in range(machine.repeats + 1)
    ]
    return rounds[1:]


def write_timings(models: dict[str, Rounds]) -> None:
    """Write the rounds of `base`, by which every arm is priced that has none of its own, and of other arms by name."""
    write_json(
        TIMINGS, {name: [_as_dict(one) for one in rounds] for name, rounds in models.items()}
    )


def read_timings() -> dict[str, Rounds]:
    """What `write_timings` wrote."""
    stored: dict[str, Any] = read_json(TIMINGS)
    return {
        name: [{level: Rates(**rates) for level, rates in one.items()} for one in rounds]
        for name, rounds in stored.items()
    }


def _as_dict(one: dict[str, Rates]) -> dict[str, Any]:
    return {level: asdict(rates) for level, rates in one.items()}
