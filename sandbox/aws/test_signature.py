"""Chunked bodies and their signatures, compared with AWS's published example and with the server."""

import http.client
import json
import unittest
import zlib
from datetime import UTC, datetime, timedelta

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from harness import CloudTest, encoded
from localcloud import signature
from localcloud.chunks import Broken, decode

# S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks".
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SCOPE = "20130524/us-east-1/s3/aws4_request"
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
CHUNKS = (
    (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
    (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
    (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
)


def published_example() -> tuple[bytes, signature.Claim]:
    claim = signature.Claim(
        access_key_id="AKIAIOSFODNN7EXAMPLE",
        date="20130524",
        scope=SCOPE,
        signed_headers=("host",),
        signature=SEED,
        timestamp="20130524T000000Z",
        token=None,
        lifetime_seconds=None,
    )
    body = b"".join(f"{size:x};chunk-signature={mark}\r\n".encode() + b"a" * size + b"\r\n" for size, mark in CHUNKS)
    return body, claim


class Chunks(unittest.TestCase):
    def test_sizes_and_trailers_are_taken_apart(self) -> None:
        body = b"4\r\nWiki\r\n6\r\npedia \r\n0\r\nx-amz-checksum-crc32:abc=\r\n\r\n"
        self.assertEqual(decode(body, None), (b"Wikipedia ", {"x-amz-checksum-crc32": "abc="}))

    def test_cut_and_malformed_bodies_are_told_apart_from_whole_ones(self) -> None:
        for body in (b"", b"4\r\nWi", b"4\r\nWiki\r\n", b"z\r\nWiki\r\n0\r\n\r\n"):
            with self.subTest(body=body), self.assertRaises(Broken):
                decode(body, None)

    def test_a_chunk_with_the_wrong_signature_is_refused(self) -> None:
        def sign(kind: str, previous: str, hashes: str) -> str:
            return f"{kind}-after-{previous or 'seed'}"

        last = b"0;chunk-signature=PAYLOAD-after-PAYLOAD-after-seed\r\n\r\n"
        good = b"4;chunk-signature=PAYLOAD-after-seed\r\nWiki\r\n" + last
        self.assertEqual(decode(good, sign), (b"Wiki", {}))
        with self.assertRaises(Broken) as caught:
            decode(good.replace(b"after-seed\r\nWiki", b"after-sead\r\nWiki"), sign)
        self.assertTrue(caught.exception.signature)

    def test_the_published_example_is_accepted_and_a_changed_byte_is_not(self) -> None:
        body, claim = published_example()
        sign = signature.chunk_signer(signature.signing_key(SECRET, SCOPE), claim)
        self.assertEqual(decode(body, sign), (b"a" * 66560, {}))
        with self.assertRaises(Broken) as caught:
            decode(body.replace(b"aa", b"ab", 1), sign)
        self.assertTrue(caught.exception.signature)


class StreamingAuth(S3SigV4Auth):
    """Signs a request whose payload is declared as streaming."""

    declared = signature.STREAMING_UNSIGNED

    def payload(self, request: AWSRequest) -> str:
        return self.declared


class Streaming(CloudTest):
    def put(self, key: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        request = AWSRequest("PUT", f"{self.cloud.endpoint}/{self.name}/{key}", data=body, headers=headers)
        StreamingAuth(Credentials(*self.cloud.keys), "s3", "us-east-1").add_auth(request)
        connection = http.client.HTTPConnection("127.0.0.1", self.cloud.port, timeout=10)
        self.addCleanup(connection.close)
        connection.request("PUT", f"/{self.name}/{key}", body=body, headers=dict(request.headers.items()))
        answer = connection.getresponse()
        return answer.status, answer.read()

    def test_a_trailing_checksum_is_checked_and_the_plain_object_kept(self) -> None:
        self.bucket()
        payload = b"Wikipedia"
        right = encoded(zlib.crc32(payload).to_bytes(4, "big"))
        headers = {
            "x-amz-decoded-content-length": str(len(payload)),
            "x-amz-trailer": "x-amz-checksum-crc32",
            "content-encoding": "aws-chunked",
        }
        for checksum, status in ((right, 200), (encoded(b"1234"), 400)):
            body = f"4\r\nWiki\r\n5\r\npedia\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n".encode()
            self.assertEqual(self.put(f"key-{status}", body, **headers)[0], status)
        found = self.s3.get_object(Bucket=self.name, Key="key-200", ChecksumMode="ENABLED")
        self.assertEqual((found["Body"].read(), found["ChecksumCRC32"]), (payload, right))
        self.assertNotIn("ContentEncoding", found)
        self.refused("404", self.s3.head_object, Bucket=self.name, Key="key-400")

    def test_a_body_that_is_cut_short_is_refused(self) -> None:
        self.bucket()
        status, answer = self.put("key", b"4\r\nWiki\r\n", **{"x-amz-decoded-content-length": "9"})
        self.assertEqual((status, b"IncompleteBody" in answer), (400, True))


class Time(unittest.TestCase):
    def test_requests_are_good_for_a_quarter_of_an_hour_either_way(self) -> None:
        _, claim = published_example()
        signed_at = datetime(2013, 5, 24, tzinfo=UTC)
        request = type("AnyRequest", (), {"service": "s3"})()
        for minutes in (-15, 0, 15):
            signature.check_time(request, claim, signed_at + timedelta(minutes=minutes))
        for minutes in (-16, 16):
            with self.subTest(minutes), self.assertRaises(signature.Refused) as caught:
                signature.check_time(request, claim, signed_at + timedelta(minutes=minutes))
            self.assertEqual(caught.exception.code, "RequestTimeTooSkewed")


class Peers(CloudTest):
    def test_the_supervisors_paths_are_closed_to_machines(self) -> None:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.cloud.port, timeout=5, source_address=("127.0.0.2", 0)
        )
        self.addCleanup(connection.close)
        connection.request("GET", "/_hv/operator")
        answer = connection.getresponse()
        self.assertEqual(answer.status, 403)
        self.assertNotIn("secret_access_key", json.load(answer))
