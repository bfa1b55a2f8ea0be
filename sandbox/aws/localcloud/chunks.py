"""The aws-chunked body format: sizes, optional signatures, and trailing headers such as a checksum."""

import hashlib
import hmac
from collections.abc import Callable

EMPTY_HASH = hashlib.sha256(b"").hexdigest()
Signer = Callable[[str, str, str], str]


class Broken(Exception):
    """The body is cut short, malformed, or (`signature`) a part of it carries the wrong signature."""

    def __init__(self, message: str, signature: bool = False):
        super().__init__(message)
        self.signature = signature


def decode(body: bytes, sign: Signer | None) -> tuple[bytes, dict[str, str]]:
    """Returns payload and trailing headers. With `sign`, each chunk's signature is checked."""
    payload = bytearray()
    position, previous = 0, ""
    while True:
        line_end = body.find(b"\r\n", position)
        if line_end < 0:
            raise Broken("The chunked body ends before its last chunk.")
        size_text, _, extension = body[position:line_end].partition(b";")
        try:
            size = int(size_text, 16)
        except ValueError:
            raise Broken("A chunk does not begin with its size.") from None
        start = line_end + 2
        data = body[start : start + size]
        if len(data) != size:
            raise Broken("The chunked body ends within a chunk.")
        if sign is not None:
            carried = extension.strip().removeprefix(b"chunk-signature=").decode("ascii", "replace")
            expected = sign("PAYLOAD", previous, f"{EMPTY_HASH}\n{hashlib.sha256(data).hexdigest()}")
            if not hmac.compare_digest(expected.encode(), carried.encode()):
                raise Broken("The chunk signature we calculated does not match the one you provided.", signature=True)
            previous = expected
        payload += data
        position = start + size
        if size == 0:
            return bytes(payload), trailing_headers(body[position:], sign, previous)
        position += 2


def trailing_headers(rest: bytes, sign: Signer | None, previous: str) -> dict[str, str]:
    lines = [line.strip() for line in rest.replace(b"\r\n", b"\n").split(b"\n") if line.strip()]
    headers = {}
    for line in lines:
        name, _, value = line.decode("ascii", "replace").partition(":")
        headers[name.strip().lower()] = value.strip()
    carried = headers.pop("x-amz-trailer-signature", None)
    if sign is not None and headers:
        canonical = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
        expected = sign("TRAILER", previous, hashlib.sha256(canonical.encode()).hexdigest())
        if carried is None or not hmac.compare_digest(expected.encode(), carried.encode()):
            raise Broken("The trailer signature we calculated does not match the one you provided.", signature=True)
    return headers
