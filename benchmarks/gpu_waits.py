"""Find the lines where the processor waits for the GPU, for `benchmarks.gpu_rates`.

While it waits it prepares no further kernels, so the GPU is idle after that. torch warns of each
such operation. Without a GPU a stand-in warns where a tensor becomes a Python number.
"""

import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.gpu_cases import WARM_STEPS

WARNING = "called a synchronizing CUDA operation"
CALLS = ("item", "tolist")  # of a tensor, which wait for a GPU


def count_waits(trainer: Any) -> dict[str, float]:
    """Train, and return how often each line waits in a step after the warm-up."""
    from transformers import PrinterCallback, TrainerCallback

    found: Counter[str] = Counter()
    steps = trainer.args.max_steps - WARM_STEPS

    class Warm(TrainerCallback):
        done = False

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.done = state.global_step >= WARM_STEPS

    warm = Warm()

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        line = get_line(traceback.extract_stack())
        if warm.done and WARNING in str(message) and line:
            found[line] += 1

    trainer.add_callback(warm)
    trainer.remove_callback(PrinterCallback)
    with warnings.catch_warnings(), warned(), patch.object(warnings, "showwarning", note):
        warnings.simplefilter("always")
        trainer.train()
    return {line: count / steps for line, count in found.most_common()}


@contextmanager
def warned() -> Iterator[None]:
    """Let each operation that waits for the GPU warn."""
    import torch

    if not torch.cuda.is_available():
        with stand_in():
            yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def stand_in() -> Iterator[None]:
    """Let tensors of a CPU warn too, where they would wait on a GPU."""
    import torch

    def warn_before(plain: Any) -> Any:
        def call(tensor: Any, *args: Any) -> Any:
            warnings.warn(WARNING, stacklevel=2)
            return plain(tensor, *args)

        return call

    plain = {name: getattr(torch.Tensor, name) for name in CALLS}
    with patch.multiple(torch.Tensor, **{name: warn_before(call) for name, call in plain.items()}):
        yield


def get_line(stack: traceback.StackSummary) -> str | None:
    """Return the innermost line outside torch, and the line of ours that leads to it.

    It is None if the measurement itself waits.
    """
    frames = [frame for frame in stack if not is_of_measurement(frame.filename)]
    inner = next(frame for frame in reversed(frames) if "/torch/" not in frame.filename)
    if inner.filename.endswith("gpu_clock.py"):
        return None
    ours = next((frame for frame in reversed(frames) if is_ours(frame.filename)), inner)
    lines = dict.fromkeys(f"{shorten(frame.filename)}:{frame.lineno}" for frame in (inner, ours))
    return ", by ".join(lines)


def is_of_measurement(path: str) -> bool:
    """Return whether a file counts the waits, or shows warnings."""
    return path == __file__ or path.endswith("/warnings.py")


def is_ours(path: str) -> bool:
    """Return whether a file belongs to the stages."""
    return shorten(path).startswith("stages/")


def shorten(path: str) -> str:
    """Return a path from the repository or from the folder of packages on."""
    root = str(Path(__file__).parents[1])
    return path.removeprefix(f"{root}/").rpartition("/site-packages/")[2]
