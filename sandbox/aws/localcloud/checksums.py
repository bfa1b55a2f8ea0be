"""Compares digests that a client sends along with an object with the bytes that arrived."""

import base64
import binascii
import hashlib
import zlib
from functools import cache

from .errors import Refused
from .request import Request

PREFIX = "x-amz-checksum-"


def check(request: Request, operation: str) -> None:
    """Refuses a body that is not what Content-MD5 or an x-amz-checksum-* header or trailer says (BadDigest).

    Hands the checksum on to moto as headers, so that it is kept with the object and given back on read.
    """
    declared_md5 = request.headers.get("content-md5")
    if declared_md5 is not None:
        try:
            wanted = base64.b64decode(declared_md5, validate=True)
        except binascii.Error:
            wanted = b""
        if len(wanted) != 16:
            raise Refused("InvalidDigest", "The Content-MD5 you specified was invalid.")
        if hashlib.md5(request.body, usedforsecurity=False).digest() != wanted:
            raise Refused("BadDigest", "The Content-MD5 you specified did not match what we received.")
    for name, value in (request.headers | request.trailers).items():
        algorithm = name.removeprefix(PREFIX)
        if not name.startswith(PREFIX) or algorithm not in ALGORITHMS:
            continue
        covers_body = operation != "CompleteMultipartUpload"  # there it covers the object that the parts make up
        if covers_body and ALGORITHMS[algorithm](request.body) != decoded(name, value):
            raise Refused("BadDigest", f"The {algorithm.upper()} you specified did not match the calculated checksum.")
        request.environ["HTTP_" + name.upper().replace("-", "_")] = value
        request.environ.setdefault("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", algorithm.upper())


def decoded(name: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise Refused("InvalidRequest", f"Value for {name} header is invalid.") from None


@cache
def reflected_table(polynomial: int) -> tuple[int, ...]:
    table = []
    for byte in range(256):
        entry = byte
        for _ in range(8):
            entry = (entry >> 1) ^ (polynomial if entry & 1 else 0)
        table.append(entry)
    return tuple(table)


def reflected_crc(data: bytes, polynomial: int, width_bits: int) -> bytes:
    """A reflected CRC whose initial value and final mask are all ones, as big-endian bytes."""
    table, mask = reflected_table(polynomial), (1 << width_bits) - 1
    crc = mask
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return (crc ^ mask).to_bytes(width_bits // 8, "big")


ALGORITHMS = {
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "crc32c": lambda data: reflected_crc(data, 0x82F63B78, 32),
    "crc64nvme": lambda data: reflected_crc(data, 0x9A6C9329AC4BC9B5, 64),
}
