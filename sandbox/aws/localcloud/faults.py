"""Failures on demand: a test says which calls fail, how, and how often."""

import time
from dataclasses import dataclass
from typing import Any

from .errors import Refused

# With this status a call is only delayed.
HTTP_OK = 200
DEFAULT_CODES = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}


@dataclass
class Fault:
    """One planned failure. `remaining` None means until it is removed."""

    service: str
    operation: str
    status: int
    code: str
    remaining: int | None
    key_prefix: str
    delay_s: float

    @classmethod
    def parse(cls, document: dict[str, Any]) -> "Fault":
        """Reads `{"service","operation","status","code","count","key_prefix","delay_s"}`; ValueError says what is wrong."""
        known = {"service", "operation", "status", "code", "count", "key_prefix", "delay_s"}
        unknown = set(document) - known
        if unknown:
            raise ValueError(f"unknown field {', '.join(sorted(unknown))}")
        if "service" not in document:
            raise ValueError("field service is missing")
        status, count = int(document.get("status", 500)), document.get("count")
        return cls(
            service=document["service"],
            operation=document.get("operation", "*"),
            status=status,
            code=document.get("code") or DEFAULT_CODES.get(status, "InternalError"),
            remaining=None if count is None else int(count),
            key_prefix=document.get("key_prefix", ""),
            delay_s=float(document.get("delay_s", 0)),
        )

    def meets(self, service: str, operation: str, key: str) -> bool:
        """Returns whether this call is to fail. `key` is the object's key, empty elsewhere."""
        return (
            self.remaining != 0
            and self.service == service
            and self.operation in ("*", operation)
            and key.startswith(self.key_prefix)
        )


class Faults:
    """All planned failures; the one that was planned first strikes first."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []

    def plan(self, fault: Fault) -> None:
        self._planned.append(fault)

    def clear(self) -> None:
        self._planned.clear()

    def strike(self, service: str, operation: str, key: str) -> None:
        """Refuses the call if a failure is planned for it."""
        for fault in self._planned:
            if fault.meets(service, operation, key):
                if fault.remaining is not None:
                    fault.remaining -= 1
                time.sleep(fault.delay_s)
                if fault.status == HTTP_OK:
                    continue
                raise Refused(fault.code, f"planned failure of {operation}", fault.status)
