"""The `evaluate` library, imported without its evaluators.

They run models by the pipelines of transformers, and nothing here uses them. To import these takes
most of the start of a stage that needs no model.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# The library catches the error of each of them and then has no evaluators.
OPTIONAL = ("transformers", "scipy.stats")


@contextmanager
def _hidden() -> Iterator[None]:
    """Let the import of the optional packages fail during the block."""
    loaded = {name: sys.modules[name] for name in OPTIONAL if name in sys.modules}
    sys.modules |= dict.fromkeys(OPTIONAL)  # type: ignore[arg-type]  # Python reads None as missing
    try:
        yield
    finally:
        for name in OPTIONAL:
            del sys.modules[name]
        sys.modules |= loaded


with _hidden():
    import evaluate

__all__ = ["evaluate"]
