"""The log of the server, in which no text of a client and no key appears."""

import logging

from services.serve.errors import describe_place


class WithoutMessages(logging.Filter):
    """Replace the traceback of an exception by one without its message."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True, because every record is shown."""
        if record.exc_info and record.exc_info[1]:
            record.exc_text = describe_place(record.exc_info[1])
        return True


def set_up_logs() -> None:
    """Let uvicorn say where it listens and what failed, but not who asked what."""
    shown = logging.getLogger("uvicorn.error")
    shown.setLevel(logging.INFO)
    shown.addFilter(WithoutMessages())
    for name in ("uvicorn.access", "transformers", "ContinuousBatchingLogger", "httpx2", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
