"""Where every request enters: the supervisor's paths, or authenticate, authorise, check, and let moto work.

One lock covers the authorisation, the checks and moto's work, so that conditional writes and idempotency tokens cannot
race and moto's unguarded dictionaries are never changed under a reader. Bodies are read and digested outside it.
"""

import gc
import json
import sys
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from threading import RLock
from typing import Any

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.test import run_wsgi_app

from . import checksums, door, errors, permissions, principals, s3, signature, world
from .errors import Refused
from .faults import Faults
from .knobs import KNOBS
from .request import SERVICES, Request

LARGE_BODY_BYTES = 4_000_000
NAMES_IN_MOTO = {"monitoring": "cloudwatch"}

Response = tuple[int, list[tuple[str, str]], bytes]


class Front:
    """The WSGI application."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._version = world.Version()
        self._faults = Faults()
        self._backends = {service: create_backend_app(NAMES_IN_MOTO.get(service, service)) for service in SERVICES}
        self._door = door.Door(self._lock, self._version, self._faults, principals.create_operator())

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request.read(environ)
        status, headers, body = self._answer(request)
        if len(request.body) > LARGE_BODY_BYTES:
            gc.collect()  # Flask's request contexts are cycles; each would keep its object in memory for long
        start_response(f"{status} {'OK' if status < 400 else 'Refused'}", headers)
        return [body]

    def _answer(self, request: Request) -> Response:
        if request.raw_path == door.ADDRESS_PATH:
            return as_text(200, f"{request.peer}\n")
        if request.raw_path.startswith(door.PREFIX):
            status, document = self._door.answer(
                request.method, request.raw_path, request.query, request.body, request.peer
            )
            return as_json(status, document)
        try:
            return self._carry_out(request)
        except Refused as refusal:
            return errors.render(refusal, request.service, request.method, request.raw_path)
        except Exception as problem:  # a defect here or a gap in moto: say so in the caller's own format
            traceback.print_exc(file=sys.stderr)
            message = f"the sandbox cannot do this: {type(problem).__name__}: {problem}"
            missing = isinstance(problem, NotImplementedError)
            refusal = Refused("NotImplemented", message, 501) if missing else Refused("InternalError", message, 500)
            return errors.render(refusal, request.service, request.method, request.raw_path)

    def _carry_out(self, request: Request) -> Response:
        if request.service not in SERVICES:
            raise Refused("UnknownService", f"the sandbox has no service {request.service!r}", 400)
        claim = signature.claim_of(request)
        now = datetime.now(UTC)
        with self._lock:
            credentials = principals.credentials_of(claim.access_key_id)
        check_credentials(request, claim, credentials, now)
        signature.verify(request, claim, credentials.secret, now)
        operation = permissions.operation_of(request).name if request.service == "s3" else request.operation
        if request.service == "s3":
            checksums.check(request, operation)
        # Outside the lock: a call that is delayed on purpose must not delay others.
        key = request.bucket_and_key[1] if request.service == "s3" else ""
        self._faults.strike(request.service, operation, key)
        with self._lock:
            KNOBS.refuse(request, operation)
            authorizer = permissions.Authorizer(request, principals.principal_of(credentials))
            authorizer.check()
            if request.service == "s3":
                response = self._carry_out_s3(request, operation, authorizer)
            else:
                response = self._ask_moto(request)
            if response[0] < 400:
                KNOBS.note(request, operation, response[2])
                if world.changes_the_world(request.service, operation):
                    self._version.rise()
            return response

    def _carry_out_s3(self, request: Request, operation: str, authorizer: permissions.Authorizer) -> Response:
        bucket, _ = request.bucket_and_key
        if operation == "Unknown":
            raise Refused("MethodNotAllowed", "The specified method is not allowed against this resource.", 405)
        s3.check_conditions(request, operation)
        s3.check_lock(request, operation)
        if operation == "PutBucketPolicy":
            s3.check_policy(request)
        if operation == "DeleteObjects":
            s3.UNDELETABLE.set(permissions.undeletable(authorizer))
        if operation == "GetObjectRetention":
            return s3.retention(request)
        response = self._ask_moto(request)
        if response[0] == 404 and operation in ("GetObject", "HeadObject") and s3.bucket_exists(bucket):
            # Only those who may list learn whether a key exists.
            if not authorizer.allows(permissions.Need("s3:ListBucket", f"arn:aws:s3:::{bucket}")):
                raise Refused("AccessDenied", "Access Denied", 403)
        return response

    def _ask_moto(self, request: Request) -> Response:
        body, status, headers = run_wsgi_app(self._backends[request.service], request.environ_for_moto(), buffered=True)
        return int(status.partition(" ")[0]), list(headers), b"".join(body)


def check_credentials(request: Request, claim: signature.Claim, credentials: Any, now: datetime) -> None:
    """Refuses an unknown key, and a temporary one with the wrong token or past its time."""
    if credentials is None or (credentials.token is not None and claim.token is None):
        message = (
            "AWS was not able to validate the provided access credentials"
            if request.service == "ec2"
            else "The AWS Access Key Id you provided does not exist in our records."
        )
        raise Refused.because("unknown key", request.service, message)
    if claim.token != credentials.token:
        message = "The provided token is malformed or otherwise invalid."
        raise Refused.because("wrong token", request.service, message)
    if credentials.expires is not None and now >= credentials.expires:
        raise Refused.because("expired token", request.service, "The provided token has expired.")


def as_text(status: int, text: str) -> Response:
    body = text.encode()
    return status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))], body


def as_json(status: int, document: dict[str, Any]) -> Response:
    body = json.dumps(document).encode()
    return status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))], body
