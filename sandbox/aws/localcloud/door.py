"""The supervisor's paths under /_hv/: unsigned, and answered only to this computer.

GET  world?after=V             the world, as soon as its version is beyond V, at the latest after 20 s
POST ack                       {"instance","state"}: a machine has become running, stopped or terminated
GET  role-credentials/<id>     what the machine's metadata service answers for its role
GET  operator                  the administrator's keys
GET  address                   the caller's own address, as text; answered to machines too
GET  health                    200 when ready
GET  uses                      every permission that was asked for: caller, action, resource, whether it was given
POST fault / DELETE fault      plan a failure / forget all planned failures
POST knobs                     turn the named knobs; answers all of them
"""

import json
from datetime import UTC, datetime
from threading import RLock
from typing import Any

from . import lifecycle, permissions, world
from .faults import Fault, Faults
from .knobs import KNOBS
from .principals import RoleSessions

LOCAL_PEERS = ("127.0.0.1", "10.77.0.1")
LONG_POLL_SECONDS = 20.0
PREFIX = "/_hv/"
# Answered to everybody, as AWS does at an address of its own.
ADDRESS_PATH = "/_hv/address"
Answer = tuple[int, dict[str, Any]]


class Door:
    """Answers the supervisor. Shares the front's lock, so that it never sees half of a call."""

    def __init__(self, lock: RLock, version: world.Version, faults: Faults, operator: tuple[str, str]):
        self._lock = lock
        self._version = version
        self._faults = faults
        self._operator = operator
        self._sessions = RoleSessions()

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes, peer: str) -> Answer:
        """Returns status and JSON document."""
        if peer not in LOCAL_PEERS:
            return 403, {"error": f"{path} is answered only to this computer, not to {peer}"}
        name, _, rest = path.removeprefix(PREFIX).partition("/")
        try:
            match (method, name):
                case ("GET", "health"):
                    return 200, {"ready": True}
                case ("GET", "operator"):
                    return 200, {"access_key_id": self._operator[0], "secret_access_key": self._operator[1]}
                case ("GET", "world"):
                    return self._world(query)
                case ("POST", "ack"):
                    return self._acknowledge(json.loads(body))
                case ("GET", "role-credentials"):
                    return self._role_credentials(rest)
                case ("GET", "uses"):
                    with self._lock:
                        return 200, permissions.USES.document()
                case ("POST", "fault"):
                    self._faults.plan(Fault.parse(json.loads(body)))
                    return 200, {}
                case ("POST", "knobs"):
                    with self._lock:
                        settings = KNOBS.turn(json.loads(body))
                        self._version.rise()
                        return 200, settings
                case ("DELETE", "fault"):
                    self._faults.clear()
                    return 200, {}
        except (ValueError, KeyError, TypeError) as problem:
            return 400, {"error": f"cannot read the request to {path}: {problem}"}
        return 404, {"error": f"there is no {method} {path}"}

    def _world(self, query: dict[str, str]) -> Answer:
        if "after" in query:
            self._version.wait_beyond(int(query["after"]), LONG_POLL_SECONDS)
        with self._lock:
            return 200, world.snapshot(self._version.number)

    def _acknowledge(self, document: dict[str, Any]) -> Answer:
        state = document["state"]
        if state not in lifecycle.ACKNOWLEDGEABLE:
            return 400, {"error": f"state {state} cannot be acknowledged: running, stopped or terminated can"}
        with self._lock:
            instance = lifecycle.find(document["instance"])
            if instance is None:
                return 404, {"error": f"there is no instance {document['instance']}"}
            accepted = lifecycle.acknowledge(instance, state)
            if accepted:
                self._version.rise()
            return 200, {"accepted": accepted, "state": instance.state}

    def _role_credentials(self, instance_id: str) -> Answer:
        with self._lock:
            instance = lifecycle.find(instance_id)
            if instance is None:
                return 404, {"error": f"there is no instance {instance_id}"}
            role = world.role_of((instance.iam_instance_profile or {}).get("Arn"))
            if role is None:
                return 404, {"error": f"instance {instance_id} has no role"}
            return 200, self._sessions.metadata_document(instance_id, role.arn, datetime.now(UTC))
