"""S3's conditions, deletions and defaults, where moto differs from AWS. All of it runs under the front's one lock."""

import json
from contextvars import ContextVar
from typing import Any

from moto.core.serialize import S3Serializer
from moto.iam.access_control import PermissionResult
from moto.s3 import models
from moto.s3.models import FakeBucket, FakeKey, PublicAccessBlock, S3Backend, s3_backends

from .errors import Refused
from .principals import ACCOUNT
from .request import Request

CONDITIONAL_WRITES = ("PutObject", "CopyObject", "CompleteMultipartUpload", "DeleteObject")
ENCRYPTED_BY_DEFAULT = {
    "Rule": {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": "false"}
}
# Answers whose outermost element moto names after the operation. Most clients do not look at it; AWS's for Rust does.
ROOT_ELEMENTS = {"GetBucketVersioning": "VersioningConfiguration", "ListParts": "ListPartsResult"}
# ARNs of objects that the caller of the current DeleteObjects request may not delete.
UNDELETABLE: ContextVar[frozenset[str]] = ContextVar("undeletable", default=frozenset())


def install() -> None:
    """Turns moto's own policy evaluation off: `permissions` has decided before moto is asked."""

    def get_permission(self: FakeBucket, action: str, resource: str) -> PermissionResult:
        denied = action == "s3:DeleteObject" and resource in UNDELETABLE.get()
        return PermissionResult.DENIED if denied else PermissionResult.NEUTRAL

    initialise_in_moto = FakeBucket.__init__

    def initialise(self: FakeBucket, *args: Any, **kwargs: Any) -> None:
        initialise_in_moto(self, *args, **kwargs)
        self.encryption = dict(ENCRYPTED_BY_DEFAULT)
        self.public_access_block = PublicAccessBlock(True, True, True, True)
        self.ownership_rule = "BucketOwnerEnforced"

    serialise_in_moto = S3Serializer._serialize_body

    def serialise(self: S3Serializer, body: dict[str, Any]) -> str:
        name = self.operation_model.name
        found, wanted = f"{name}Response", ROOT_ELEMENTS.get(name)
        if wanted is not None and found in body:
            body = {wanted: body[found]}
        return serialise_in_moto(self, body)

    def delete_bucket_encryption(self: S3Backend, bucket_name: str) -> None:
        self.get_bucket(bucket_name).encryption = dict(ENCRYPTED_BY_DEFAULT)

    put_object_lock_in_moto = S3Backend.put_object_lock_configuration

    def put_object_lock_configuration(self: S3Backend, bucket_name: str, *args: Any, **kwargs: Any) -> None:
        # moto wants an empty bucket; AWS lets a versioned one with objects be locked since November 2023.
        bucket = self.get_bucket(bucket_name)
        held, bucket.keys = bucket.keys, type(bucket.keys)()
        try:
            put_object_lock_in_moto(self, bucket_name, *args, **kwargs)
        finally:
            bucket.keys = held

    S3Serializer._serialize_body = serialise
    S3Backend.put_object_lock_configuration = put_object_lock_configuration
    FakeBucket.get_permission = get_permission
    FakeBucket.__init__ = initialise
    S3Backend.delete_bucket_encryption = delete_bucket_encryption
    # moto tells EventBridge of every change; nobody listens, and its modules are slow to load.
    models.events_send_notification = lambda **_: None


def current(bucket: str, key: str) -> FakeKey | None:
    """The object's current version; None for a missing object and for a deleted one."""
    held = s3_backends[ACCOUNT]["aws"].buckets.get(bucket)
    found = held.keys.get(key) if held is not None else None
    return found if isinstance(found, FakeKey) else None


def bucket_exists(bucket: str) -> bool:
    return bucket in s3_backends[ACCOUNT]["aws"].buckets


def check_conditions(request: Request, operation: str) -> None:
    """Refuses a write whose If-None-Match or If-Match does not hold, and takes those that hold out of the request."""
    if operation not in CONDITIONAL_WRITES:
        return
    none_match = request.headers.get("if-none-match")
    match = request.headers.get("if-match")
    bucket, key = request.bucket_and_key
    if (none_match is None and match is None) or not bucket_exists(bucket):
        return
    found = current(bucket, key)
    if none_match is not None:
        if none_match != "*" or operation in ("DeleteObject", "CopyObject"):
            message = "A header you provided implies functionality that is not implemented"
            raise Refused("NotImplemented", message, 501)
        if found is not None and not already_completed(request, operation, found):
            raise precondition_failed("If-None-Match")
    if match is not None:
        if found is None:
            raise Refused("NoSuchKey", "The specified key does not exist.", 404)
        if match != "*" and match.strip('"') != found.etag.strip('"'):
            raise precondition_failed("If-Match")
    request.environ.pop("HTTP_IF_NONE_MATCH", None)
    request.environ.pop("HTTP_IF_MATCH", None)


def check_policy(request: Request) -> None:
    """Refuses a bucket policy that nobody could evaluate later."""
    try:
        statements = json.loads(request.body)["Statement"]
        statements = statements if isinstance(statements, list) else [statements]
        valid = all(
            each["Effect"] in ("Allow", "Deny")
            and ({"Principal", "NotPrincipal"} & set(each))
            and ({"Action", "NotAction"} & set(each))
            and ({"Resource", "NotResource"} & set(each))
            for each in statements
        )
    except (ValueError, KeyError, TypeError):
        valid = False
    if not valid:
        raise Refused("MalformedPolicy", "Policies must be valid JSON with Effect, Principal, Action and Resource.")


def already_completed(request: Request, operation: str, found: Any) -> bool:
    """Completing the same multipart upload twice succeeds twice."""
    upload = request.query.get("uploadId")
    return operation == "CompleteMultipartUpload" and bool(found.multipart) and found.multipart.id == upload


def check_lock(request: Request, operation: str) -> None:
    """Refuses an object for a locked bucket without a digest. moto refuses it too, with another error code."""
    held = s3_backends[ACCOUNT]["aws"].buckets.get(request.bucket_and_key[0])
    if operation != "PutObject" or held is None or not held.has_default_lock:
        return
    if "content-md5" not in request.headers and "HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM" not in request.environ:
        message = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock"
        raise Refused("InvalidRequest", f"{message} parameters")


def retention(request: Request) -> tuple[int, list[tuple[str, str]], bytes]:
    """The answer to GetObjectRetention, which moto does not have."""
    bucket, key = request.bucket_and_key
    version = request.query.get("versionId")
    held = s3_backends[ACCOUNT]["aws"].get_object(bucket, key, version_id=version)
    if held is None:
        raise Refused("NoSuchKey", "The specified key does not exist.", 404)
    if not held.lock_mode:
        message = "The specified object does not have a ObjectLock configuration"
        raise Refused("NoSuchObjectLockConfiguration", message, 404)
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><Retention xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Mode>{held.lock_mode}</Mode><RetainUntilDate>{held.lock_until}</RetainUntilDate></Retention>"
    ).encode()
    return 200, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))], body


def precondition_failed(condition: str) -> Refused:
    return Refused(
        "PreconditionFailed", f"At least one of the pre-conditions you specified did not hold: {condition}", 412
    )
