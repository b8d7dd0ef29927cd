"""Load the model and answer requests until the process is told to end."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import uvicorn

from services.serve.app import create_app
from services.serve.following import Follower
from services.serve.loading import load
from services.serve.metrics import ServerMetrics
from services.serve.server_log import set_up_logs
from services.serve.settings import ServeConfig
from stages.core.environment.processes import TERMINATED

if TYPE_CHECKING:
    from mlflow import MlflowClient


def answer_requests(
    settings: ServeConfig,
    keys: list[bytes],
    client: "MlflowClient",
    find_number: Callable[[], str],
) -> None:
    """Load the model and answer requests.

    Args:
        settings: The settings of the server.
        keys: The hashes of the keys. Without any, all may ask.
        client: The client of the registry.
        find_number: Returns the number of the version that is to be served now.

    Raises:
        UserError: The model is not what was measured, or cannot be loaded.
    """
    metrics = ServerMetrics()
    follower = Follower(
        load(client, settings), find_number, partial(load, client, settings), metrics
    )
    set_up_logs()
    try:
        uvicorn.run(
            create_app(follower, settings, keys, metrics),
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
