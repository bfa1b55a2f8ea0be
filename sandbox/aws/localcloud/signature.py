"""Signature Version 4: proof that a request was made by the holder of a secret key, and was not changed since.

Headers, query strings (presigned URLs) and chunked bodies are verified, the last by every chunk's own signature.
Versions 2 and 4a are refused. Source: AWS General Reference, "Create a signed AWS API request"; S3 API Reference,
"Signature Calculations ... Transferring Payload in Multiple Chunks".
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote_to_bytes

from . import chunks
from .errors import Refused
from .request import Request

ALLOWED_SKEW = timedelta(minutes=15)
EMPTY_HASH = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING_UNSIGNED = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
STREAMING_SIGNED = ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")


@dataclass(frozen=True)
class Claim:
    """What a request says about its signature, before any of it is believed."""

    access_key_id: str
    date: str
    scope: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    token: str | None
    lifetime_seconds: int | None


def claim_of(request: Request) -> Claim:
    """Reads the claim from the header or the query string; refuses a request without one."""
    authorization = request.headers.get("authorization", "")
    if request.presigned:
        fields = {
            "Credential": request.query.get("X-Amz-Credential", ""),
            "SignedHeaders": request.query.get("X-Amz-SignedHeaders", ""),
            "Signature": request.query["X-Amz-Signature"],
        }
        timestamp = request.query.get("X-Amz-Date", "")
        token = request.query.get("X-Amz-Security-Token")
        lifetime = int(request.query.get("X-Amz-Expires") or 0)
    elif authorization.startswith("AWS4-HMAC-SHA256 "):
        parts = authorization.removeprefix("AWS4-HMAC-SHA256 ").split(",")
        fields = dict(part.strip().partition("=")[::2] for part in parts)
        timestamp = request.headers.get("x-amz-date", "")
        token = request.headers.get("x-amz-security-token")
        lifetime = None
    else:
        raise Refused.because("unsigned", request.service, "The request is not signed with Signature Version 4.")
    access_key_id, _, scope = fields.get("Credential", "").partition("/")
    if scope.count("/") != 3 or not fields.get("Signature") or not fields.get("SignedHeaders"):
        raise Refused.because("wrong signature", request.service, "The authorization header is malformed.")
    return Claim(
        access_key_id=access_key_id,
        date=scope.partition("/")[0],
        scope=scope,
        signed_headers=tuple(fields["SignedHeaders"].lower().split(";")),
        signature=fields["Signature"],
        timestamp=timestamp,
        token=token,
        lifetime_seconds=lifetime,
    )


def verify(request: Request, claim: Claim, secret: str, now: datetime) -> None:
    """Refuses a request whose time, headers, payload or signature are wrong. Replaces a chunked body by its payload."""
    check_time(request, claim, now)
    check_coverage(request, claim)
    payload_hash = declared_payload_hash(request)
    canonical = canonical_request(request, claim, payload_hash)
    key = signing_key(secret, claim.scope)
    text = "\n".join(["AWS4-HMAC-SHA256", claim.timestamp, claim.scope, hashlib.sha256(canonical.encode()).hexdigest()])
    if not hmac.compare_digest(signed(key, text), claim.signature):
        raise Refused.because(
            "wrong signature",
            request.service,
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
        )
    open_payload(request, payload_hash, chunk_signer(key, claim))


def check_time(request: Request, claim: Claim, now: datetime) -> None:
    try:
        signed_at = datetime.strptime(claim.timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Refused.because("wrong signature", request.service, "The request has no valid X-Amz-Date.") from None
    if not claim.timestamp.startswith(claim.date):
        raise Refused.because("wrong signature", request.service, "The credential's date is not the request's date.")
    if claim.lifetime_seconds is not None:
        if now > signed_at + timedelta(seconds=claim.lifetime_seconds):
            raise Refused.because("denied", request.service, "Request has expired")
    elif abs(now - signed_at) > ALLOWED_SKEW:
        message = "The difference between the request time and the current time is too large."
        raise Refused.because("wrong time", request.service, message)


def check_coverage(request: Request, claim: Claim) -> None:
    """S3 insists that the host and every x-amz-* header is signed."""
    if request.service != "s3":
        return
    uncovered = [
        name
        for name in request.headers
        if (name == "host" or name.startswith("x-amz-")) and name not in claim.signed_headers
    ]
    if uncovered:
        message = f"There were headers present in the request which were not signed: {', '.join(sorted(uncovered))}"
        raise Refused("AccessDenied", message, 403)


def declared_payload_hash(request: Request) -> str:
    if request.presigned:
        return request.headers.get("x-amz-content-sha256") or (
            UNSIGNED if request.service == "s3" else hashlib.sha256(request.body).hexdigest()
        )
    if request.service == "s3":
        declared = request.headers.get("x-amz-content-sha256")
        if not declared:
            raise Refused("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        return declared
    return hashlib.sha256(request.body).hexdigest()


def canonical_request(request: Request, claim: Claim, payload_hash: str) -> str:
    path = quote(unquote_to_bytes(request.raw_path), safe="/-_.~") or "/"
    if request.service != "s3":
        path = quote(path, safe="/-_.~")
    pairs = [part.partition("=")[::2] for part in request.raw_query.split("&") if part]
    encoded = sorted((reencoded(name), reencoded(value)) for name, value in pairs if name != "X-Amz-Signature")
    query = "&".join(f"{name}={value}" for name, value in encoded)
    headers = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in claim.signed_headers)
    return "\n".join([request.method, path, query, headers, ";".join(claim.signed_headers), payload_hash])


def reencoded(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="-_.~")


def signing_key(secret: str, scope: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signed(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), "sha256").hex()


def chunk_signer(key: bytes, claim: Claim) -> Callable[[str, str, str], str]:
    """A function from (kind, previous signature, hashes) to the signature that a chunk or trailer must carry."""

    def sign(kind: str, previous: str, hashes: str) -> str:
        return signed(key, "\n".join([f"AWS4-HMAC-SHA256-{kind}", claim.timestamp, claim.scope, previous, hashes]))

    return lambda kind, previous, hashes: sign(kind, previous or claim.signature, hashes)


def open_payload(request: Request, payload_hash: str, sign: Callable[[str, str, str], str]) -> None:
    """Compares the body with its declared hash, or decodes its chunks."""
    if payload_hash == UNSIGNED:
        return
    if payload_hash == STREAMING_UNSIGNED or payload_hash in STREAMING_SIGNED:
        verifier = sign if payload_hash in STREAMING_SIGNED else None
        try:
            request.body, request.trailers = chunks.decode(request.body, verifier)
        except chunks.Broken as broken:
            if broken.signature:
                raise Refused.because("wrong signature", request.service, str(broken)) from None
            raise Refused("IncompleteBody", str(broken)) from None
        decoded_length = request.headers.get("x-amz-decoded-content-length", "")
        if decoded_length.isdigit() and int(decoded_length) != len(request.body):
            message = "You did not provide the number of bytes specified by the x-amz-decoded-content-length header."
            raise Refused("IncompleteBody", message)
        return
    if request.service == "s3" and hashlib.sha256(request.body).hexdigest() != payload_hash:
        message = "The provided 'x-amz-content-sha256' header does not match what was computed."
        raise Refused("XAmzContentSHA256Mismatch", message)
