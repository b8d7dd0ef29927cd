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
from functools import partial

from services.serve.settings import ServeConfig
from stages.core.config.schema import TrackingConfig, read_params
from stages.core.config.words import read_words
from stages.core.entrypoint import set_up_process, tool_main
from stages.core.environment.processes import TERMINATED, ended_by_sigterm
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
    """Answer requests until the process is told to end.

    Raises:
        UserError: The model is not there, or is not what was measured, or the group of libraries is
            not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise UserError(f"{error}. Install what the server needs with `{GROUP}`") from None
    from services.serve.admission import read_keys
    from services.serve.app import create_app
    from services.serve.following import Follower
    from services.serve.loading import load
    from services.serve.metrics import ServerMetrics
    from services.serve.server_log import set_up_logs
    from stages.core.tracking.versions import connect, find_version

    keys = read_keys(settings)
    client = connect(tracking)

    def find_number() -> str:
        return find_version(client, settings.model).number

    metrics = ServerMetrics()
    follower = Follower(
        load(client, settings), find_number, partial(load, client, settings), metrics
    )
    set_up_logs()
    try:
        app = create_app(follower, settings, keys, metrics)
        uvicorn.run(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=settings.drain_seconds,
        )
    except KeyboardInterrupt:
        pass  # uvicorn raises it again after the answers have ended
    except SystemExit as end:
        if end.code != TERMINATED:
            raise
    finally:
        follower.stop()


if __name__ == "__main__":
    main()
