"""Structured log lines on standard error: for people, or one JSON object a line.

A line is an event with fields, given as `extra={"fields": {...}}`. Nothing here formats what a
client said: nobody hands it in.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal


class _TextFormatter(logging.Formatter):
    """`12:00:00.000 info request status=200 milliseconds=1.2 …`"""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        fields = " ".join(f"{name}={_plain(value)}" for name, value in _fields(record).items())
        line = f"{when} {record.levelname.lower()} {record.getMessage()} {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up(*, format: Literal["text", "json"], level: str) -> None:
    """Send this process's log lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if format == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("rethread").setLevel(level.upper())


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    given: dict[str, Any] = getattr(record, "fields", {})
    return {name: value for name, value in given.items() if value is not None and value != ""}


def _plain(value: object) -> str:
    """A value on one line, without spaces that would look like another field."""
    text = str(value)
    return text if text.isprintable() and " " not in text else json.dumps(text)
