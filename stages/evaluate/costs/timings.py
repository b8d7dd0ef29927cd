"""Measure the seconds that this machine takes for a token, so that the same rates price all arms.

The arms' own passes cannot be compared by their seconds. The prompted arms answer in another stage,
possibly on another day, or on another machine if DVC takes their answers from its cache. Here one
engine computes made-up prompts of fixed lengths several times. The time of an arm then follows from
its numbers of tokens, and a machine that is slow today is equally slow for all arms. The rounds
differ with the other load of the machine, and the bounds of costs include that spread.
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
# The number of prompts of LONG tokens that time prompts on a CPU, whose cores they fill. A GPU gets
# a whole batch of them.
FRESH_PROMPTS = 2
STEPS = 4  # tokens of an answer that are timed
BASE = "base"


@dataclass(frozen=True, slots=True)
class Rates:
    """Hold the seconds of the whole machine for a token, at a fixed number of parallel requests."""

    prompt_token: float
    """The seconds of a prompt token that is computed."""
    cached_token: float
    """The seconds of a prompt token in a prefix cache."""
    output_token: float
    """The seconds of an answer token without the part that depends on the context."""
    output_token_context: float
    """The seconds that each token of context adds to an answer token."""


Rounds = list[dict[str, Rates]]
"""For each repeat, the rates of `batches` and of `server`."""


def time_engine(engine: "Engine", tokenizer: "PreTrainedTokenizerBase", config: Config) -> Rounds:
    """Time a model that generates.

    Each round measures three things. Prompts of `LONG` tokens with nothing in common, answered with
    one token, give the seconds of a prompt token. Prompts that share all tokens except the last are
    answered with one token and with 1 + `STEPS` tokens. The difference gives the seconds of an
    answer token, once after `SHORT` and once after `LONG` tokens of context. The time that a longer
    common prefix adds to answers of one token, beyond computing it once, is the price of its reuse.

    On a noisy machine a difference may be negative. It is kept, because a cut-off at zero would
    make the mean of the rounds too high and an arm with a long prefix too expensive. An additional
    first round warms up caches and is discarded.
    """
    import torch

    machine = config.evaluate.prices.machine
    random = Random(config.seed)
    long = min(LONG, config.model.max_length - STEPS - 2)
    short = long * SHORT // LONG
    # The engine would split a larger batch.
    most = max(1, config.model.max_batch_tokens // (long + STEPS + 2))
    levels = {
        "batches": min(machine.batch_size, most),
        "server": min(machine.concurrent_requests, most),
    }
    prompts = levels["batches"] if torch.cuda.is_available() else FRESH_PROMPTS
    ids = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))

    def generate(rows: int, common: int, own: int, steps: int) -> float:
        """Get the seconds for new prompts of `common + own` tokens each."""
        prefix = random.choices(ids, k=common)
        starts = random.sample(ids, rows)  # the prompts differ after the common part
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
    """Time a classifier, which only reads the text and generates no tokens."""
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
    """Write the rounds of rates by model.

    `base` prices every arm that has no rounds of its own. Other keys are names of arms.
    """
    write_json(
        TIMINGS, {name: [_as_dict(one) for one in rounds] for name, rounds in models.items()}
    )


def read_timings() -> dict[str, Rounds]:
    """Read the rounds that `write_timings` wrote."""
    stored: dict[str, Any] = read_json(TIMINGS)
    return {
        name: [{level: Rates(**rates) for level, rates in one.items()} for one in rounds]
        for name, rounds in stored.items()
    }


def _as_dict(one: dict[str, Rates]) -> dict[str, Any]:
    return {level: asdict(rates) for level, rates in one.items()}
