"""Serve a registered model with OpenAI's API.

    python -m services.serve                      # the champion of params.yaml
    python -m services.serve model=tuneproof-question-types@champion
    python -m services.serve model=tuneproof-question-types@champion port=8001 max_waiting=16
    TUNEPROOF_API_KEYS=… python -m services.serve model=… host=0.0.0.0

When the alias moves, the version that it moves to takes over between two requests. `--help` lists the
keys; docs/deploy.md has the routes, and how to run this for others.
"""

import logging
import sys

from services.serve.settings import ServeConfig
from stages.core.config.schema import TrackingConfig, read_params
from stages.core.config.words import read_words
from stages.core.entrypoint import set_up_process, tool_main
from stages.core.environment.processes import ended_by_sigterm
from stages.core.errors import UserError

GROUP = "pip install -c constraints.txt --group serve"


@tool_main("serve")
def main() -> None:
    """Read the words, load the model and answer requests until SIGTERM or Ctrl-C."""
    words = sys.argv[1:]
    config = read_params()
    if not any(word.startswith("model=") for word in words):
        words = [f"model={config.register_.name}@{config.register_.alias}", *words]
    settings = read_words(ServeConfig, "python -m services.serve", __doc__, words)
    set_up_process()
    logging.getLogger("services").setLevel(logging.INFO)
    with ended_by_sigterm():  # else a child of the server, such as vLLM, would run on
        serve(settings, config.tracking)


def serve(settings: ServeConfig, tracking: TrackingConfig) -> None:
    """Check what can be checked at once, then answer requests until the process is told to end.

    Raises:
        UserError: The model is not there, or is not what was measured, or the group of libraries is
            not installed.
    """
    try:
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error}. Install what the server needs with `{GROUP}`") from None
    from services.serve.admission import read_keys
    from stages.core.tracking.versions import connect, find_version

    keys = read_keys(settings)
    client = connect(tracking)

    def find_number() -> str:
        return find_version(client, settings.model).number

    find_number()  # a wrong name is said before torch is imported, which takes seconds
    from services.serve.run import answer_requests

    answer_requests(settings, keys, client, find_number)


if __name__ == "__main__":
    main()
