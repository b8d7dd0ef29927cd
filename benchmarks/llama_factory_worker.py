"""Train with LLaMA-Factory on a GPU for `python -m benchmarks.train --llama-factory`.

The interpreter of LLaMA-Factory's own environment runs this script. It does what the command
`llamafactory-cli train` does in one process, and notes when each step ends. It reads `train.yaml`,
which is JSON, in the given folder and writes `steps.json` there: the seconds at the end of each
step, and the tokens read until then. It has not been run yet.
"""

import json
import sys
import time
from pathlib import Path

import torch
from llamafactory.train.tuner import run_exp
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Clock(TrainerCallback):
    """Notes the time and the tokens of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.tokens: list[int] = []

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Wait until the GPU has finished the step."""
        torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        self.tokens.append(int(state.num_input_tokens_seen))


def main() -> None:
    """Train and write the times."""
    folder = Path(sys.argv[1])
    clock = Clock()
    run_exp(json.loads((folder / "train.yaml").read_text()), callbacks=[clock])
    (folder / "steps.json").write_text(json.dumps({"ends": clock.ends, "tokens": clock.tokens}))


if __name__ == "__main__":
    main()
