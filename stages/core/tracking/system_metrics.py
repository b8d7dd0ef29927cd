"""How busy the machine is while a stage works: MLflow's own monitor, made quiet and bounded in time."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

from stages.core.errors import hide_passwords

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

log = logging.getLogger(__name__)
INTERVAL = 5.0  # seconds between samples; one takes some 6 ms of a core, 0.1 % (`python -m benchmarks.tracking`)
SHOWN = 200  # characters of what MLflow says


class _Quiet(logging.Filter):
    """Of what the monitor says, the first warning, as one of ours: its own names the server with user and password."""

    said = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass nothing on."""
        if record.levelno >= logging.WARNING and not self.said:
            self.said = True
            log.warning("No more system metrics: %s", hide_passwords(record.getMessage())[:SHOWN])
        return False


@contextmanager
def monitored(run_id: str, uri: str, patience: float, interval: float = INTERVAL) -> Iterator[None]:
    """Log use of processor, memory, disk, network and GPUs to an MLflow run while the block runs.

    Whatever goes wrong is a warning. GPUs are seen where `nvidia-ml-py` is installed.

    Args:
        run_id: of the run.
        uri: of the tracking server.
        patience: seconds to wait for the server at the end.
        interval: seconds between samples.
    """
    talk = logging.getLogger("mlflow.system_metrics.system_metrics_monitor")
    quiet = _Quiet()
    talk.addFilter(quiet)
    monitor = _start(run_id, uri, interval)
    end = Thread(
        target=monitor.finish if monitor else int, daemon=True
    )  # it asks the server once more, and waits for it
    try:
        yield
    finally:
        end.start()
        end.join(patience)
        if not end.is_alive():  # what it may still say must not be heard either
            talk.removeFilter(quiet)


def _start(run_id: str, uri: str, interval: float) -> "SystemMetricsMonitor | None":
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(run_id, sampling_interval=interval, tracking_uri=uri)
        monitor.start()
    except Exception as error:  # a missing package, a sensor that cannot be read
        log.warning("No system metrics: %s", hide_passwords(str(error))[:SHOWN])
        return None
    return monitor
