"""One request as the front sees it: read once from the server's environment, before anybody is trusted."""

import io
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote

# CloudWatch signs by the name of its host.
SERVICES = ("ec2", "s3", "iam", "sts", "ssm", "monitoring")
JSON_SERVICES = ("ssm", "monitoring")
SERVICE_OF_VERSION = {"2016-11-15": "ec2", "2010-05-08": "iam", "2011-06-15": "sts"}
SIGNING_PARAMETERS = {
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
}


@dataclass
class Request:
    """A request and its decoded parts. `body` is replaced by the plain payload once chunks are taken apart."""

    environ: dict[str, Any]
    method: str
    raw_path: str
    raw_query: str
    headers: dict[str, str]
    body: bytes
    peer: str
    secure: bool
    service: str = ""
    region: str = "us-east-1"
    trailers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, environ: dict[str, Any]) -> "Request":
        """Reads the whole body: moto keeps objects in memory anyway, and signatures cover them."""
        raw_path, _, raw_query = environ["REQUEST_URI"].partition("?")
        if "://" in raw_path:
            raw_path = "/" + raw_path.split("://", 1)[1].partition("/")[2]
        length = environ.get("CONTENT_LENGTH")
        stream = environ["wsgi.input"]
        if environ.get("wsgi.input_terminated"):
            body = stream.read()
        else:
            body = stream.read(int(length)) if length else b""
        request = cls(
            environ=environ,
            method=environ["REQUEST_METHOD"],
            raw_path=raw_path,
            raw_query=raw_query,
            headers=headers_of(environ),
            body=body,
            peer=environ.get("REMOTE_ADDR", ""),
            secure=environ.get("wsgi.url_scheme") == "https",
        )
        request.service, request.region = request._scope()
        return request

    @cached_property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.raw_query, keep_blank_values=True))

    @cached_property
    def form(self) -> dict[str, str]:
        """The parameters of an EC2, IAM or STS call, from the body or the query string."""
        if self.service not in ("ec2", "iam", "sts"):
            return {}
        return dict(self.query) | dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    @cached_property
    def json(self) -> dict[str, Any]:
        """The parameters of a call of SSM or CloudWatch."""
        try:
            return json.loads(self.body or b"{}")
        except ValueError:
            return {}

    @property
    def presigned(self) -> bool:
        return "X-Amz-Signature" in self.query

    @cached_property
    def bucket_and_key(self) -> tuple[str, str]:
        """Bucket and key of an S3 request; both may be empty. Only path-style addresses are served."""
        bucket, _, key = unquote(self.raw_path).lstrip("/").partition("/")
        return bucket, key

    @property
    def operation(self) -> str:
        """The call's name in the API reference, such as `RunInstances`; S3 names its own in `s3_operations`."""
        if self.service in JSON_SERVICES:
            return self.headers.get("x-amz-target", "").rpartition(".")[2]
        return self.form.get("Action", "")

    def _scope(self) -> tuple[str, str]:
        credential = self.query.get("X-Amz-Credential", "")
        authorization = self.headers.get("authorization", "")
        if "Credential=" in authorization:
            credential = authorization.split("Credential=", 1)[1].partition(",")[0]
        parts = credential.strip().split("/")
        if len(parts) == 5:
            return parts[3], parts[2]
        return self._service_without_signature(), "us-east-1"

    def _service_without_signature(self) -> str:
        if self.headers.get("x-amz-target", "").startswith("AmazonSSM"):
            return "ssm"
        if self.raw_path == "/" and self.method == "POST":
            form = dict(parse_qsl(self.body.decode("utf-8", "replace")))
            return SERVICE_OF_VERSION.get(form.get("Version", ""), "s3")
        return "s3"

    def environ_for_moto(self) -> dict[str, Any]:
        """The same request as moto should see it: plain payload, signed by header, no way to pick another account."""
        environ = dict(self.environ)
        environ["wsgi.input"] = io.BytesIO(self.body)
        environ["CONTENT_LENGTH"] = str(len(self.body))
        environ.pop("wsgi.input_terminated", None)
        for name in ("HTTP_X_MOTO_ACCOUNT_ID", "HTTP_EXPECT", "HTTP_TRANSFER_ENCODING", "HTTP_X_AMZ_TRAILER"):
            environ.pop(name, None)
        if self.service == "s3" and environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            environ["CONTENT_TYPE"] = "binary/octet-stream"  # moto would read the object as a form and keep nothing
        if environ.get("HTTP_X_AMZ_CONTENT_SHA256", "").startswith("STREAMING-"):
            environ["HTTP_X_AMZ_CONTENT_SHA256"] = "UNSIGNED-PAYLOAD"
            encodings = [part.strip() for part in environ.get("HTTP_CONTENT_ENCODING", "").split(",")]
            environ["HTTP_CONTENT_ENCODING"] = ",".join(part for part in encodings if part and part != "aws-chunked")
            if not environ["HTTP_CONTENT_ENCODING"]:
                del environ["HTTP_CONTENT_ENCODING"]
        if self.presigned:
            kept = [part for part in self.raw_query.split("&") if part.partition("=")[0] not in SIGNING_PARAMETERS]
            environ["QUERY_STRING"] = "&".join(kept)
            uri = self.raw_path + ("?" + "&".join(kept) if kept else "")
            environ["REQUEST_URI"] = environ["RAW_URI"] = uri
            environ["HTTP_AUTHORIZATION"] = (
                f"AWS4-HMAC-SHA256 Credential={self.query['X-Amz-Credential']}, SignedHeaders=host, Signature=checked"
            )
        return environ


def headers_of(environ: dict[str, Any]) -> dict[str, str]:
    """Header values by lower-case name."""
    headers = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = environ[name]
    return headers
