"""Structured logs: one JSON object a line on standard error, without personal data (callers pass ids, never values).

A line that cannot be written (the logs lie on a disk that is full) is lost and counted; it ends nobody's work.
"""

import io
import json
import logging
import sys
import threading
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog


class ForgivingStream(io.TextIOBase):
    """Lines to another stream. When that fails they are lost; the next line that arrives is preceded by how many."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lost = 0
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Write, or lose it; never raises OSError."""
        with self._lock:
            try:
                if self._lost and text.strip():
                    self._stream.write(json.dumps({"event": "log lines were lost", "lines": self._lost}) + "\n")
                    self._stream.flush()
                    self._lost = 0
                self._stream.write(text)
                self._stream.flush()
            except OSError:
                self._lost += bool(text.strip())
        return len(text)

    def flush(self) -> None:
        """Everything was flushed as it was written."""


def configure(service: str, level: str = "INFO") -> None:
    """Set up JSON logging for this process, for libraries too (from WARNING on); `service` stands in every line."""
    number = logging.getLevelName(level.upper())
    number = number if isinstance(number, int) else logging.INFO
    stream = ForgivingStream(sys.stderr)
    structlog.configure(
        processors=[*_SHARED, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", stream)),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    _SERVICE["service"] = service
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


def _name_service(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    fields.update(_SERVICE)
    return fields


_SERVICE: dict[str, str] = {}
_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    _name_service,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def get(name: str) -> Any:
    """A logger; keyword arguments become fields."""
    return structlog.get_logger(name)
