"""System metrics of a stage from MLflow's monitor, made silent and bounded in time."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

from stages.core.errors import hide_secrets

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

log = logging.getLogger(__name__)
# Seconds between samples. A sample takes some 6 ms of a core, 0.1 % (`python -m
# benchmarks.tracking`).
INTERVAL = 5.0
SHOWN = 200  # characters shown of a message of MLflow


class _Quiet(logging.Filter):
    """Replace all messages of the monitor by a single warning without passwords.

    The monitor's own messages contain the server's address with user and password.
    """

    said = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop the record, and log the first warning as our own."""
        if record.levelno >= logging.WARNING and not self.said:
            self.said = True
            log.warning("No more system metrics: %s", hide_secrets(record.getMessage())[:SHOWN])
        return False


@contextmanager
def monitored(run_id: str, uri: str, patience: float, interval: float = INTERVAL) -> Iterator[None]:
    """Log the use of processor, memory, disk, network and GPUs to an MLflow run during the block.

    Errors are only logged as warnings. GPUs are included if `nvidia-ml-py` is installed.

    Args:
        run_id: The id of the MLflow run.
        uri: The URI of the tracking server.
        patience: Seconds to wait for the server at the end.
        interval: Seconds between samples.
    """
    talk = logging.getLogger("mlflow.system_metrics.system_metrics_monitor")
    quiet = _Quiet()
    talk.addFilter(quiet)
    monitor = _start(run_id, uri, interval)
    # Finishing sends one more request to the server and waits for the answer.
    end = Thread(target=monitor.finish if monitor else int, daemon=True)
    try:
        yield
    finally:
        end.start()
        end.join(patience)
        if not end.is_alive():  # a thread that still runs may still log, so its filter stays
            talk.removeFilter(quiet)


def _start(run_id: str, uri: str, interval: float) -> "SystemMetricsMonitor | None":
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(run_id, sampling_interval=interval, tracking_uri=uri)
        monitor.start()
    except Exception as error:  # for example a missing package or an unreadable sensor
        log.warning("No system metrics: %s", hide_secrets(str(error))[:SHOWN])
        return None
    return monitor
