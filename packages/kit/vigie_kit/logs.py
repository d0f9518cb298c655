"""Structured logs: one JSON object a line on standard error, without personal data (callers pass ids, never values)."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog


def configure(service: str, level: str = "INFO") -> None:
    """Set up JSON logging for this process, for libraries too (from WARNING on); `service` stands in every line."""
    number = logging.getLevelName(level.upper())
    number = number if isinstance(number, int) else logging.INFO
    structlog.configure(
        processors=[*_SHARED, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    _SERVICE["service"] = service
    handler = logging.StreamHandler(sys.stderr)
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
