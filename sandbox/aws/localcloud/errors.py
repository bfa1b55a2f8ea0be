"""How each service words a refusal: the code, the HTTP status and the body that its SDKs understand.

Only refusals made by the front are here; moto words its own.
"""

import json
import uuid
from xml.sax.saxutils import escape

from .request import JSON_SERVICES

# reason -> service -> (code, HTTP status). "query" stands for IAM and STS, "ssm" for all that speak JSON.
CODES = {
    "unsigned": {
        "ec2": ("AuthFailure", 401),
        "s3": ("AccessDenied", 403),
        "query": ("MissingAuthenticationToken", 403),
        "ssm": ("MissingAuthenticationTokenException", 400),
    },
    "unknown key": {
        "ec2": ("AuthFailure", 401),
        "s3": ("InvalidAccessKeyId", 403),
        "query": ("InvalidClientTokenId", 403),
        "ssm": ("UnrecognizedClientException", 400),
    },
    "wrong token": {
        "ec2": ("AuthFailure", 401),
        "s3": ("InvalidToken", 400),
        "query": ("InvalidClientTokenId", 403),
        "ssm": ("UnrecognizedClientException", 400),
    },
    "expired token": {
        "ec2": ("RequestExpired", 400),
        "s3": ("ExpiredToken", 400),
        "query": ("ExpiredToken", 403),
        "ssm": ("ExpiredTokenException", 400),
    },
    "wrong signature": {
        "ec2": ("AuthFailure", 401),
        "s3": ("SignatureDoesNotMatch", 403),
        "query": ("SignatureDoesNotMatch", 403),
        "ssm": ("InvalidSignatureException", 400),
    },
    "wrong time": {
        "ec2": ("RequestExpired", 400),
        "s3": ("RequestTimeTooSkewed", 403),
        "query": ("SignatureDoesNotMatch", 403),
        "ssm": ("InvalidSignatureException", 400),
    },
    "denied": {
        "ec2": ("UnauthorizedOperation", 403),
        "s3": ("AccessDenied", 403),
        "query": ("AccessDenied", 403),
        "ssm": ("AccessDeniedException", 400),
    },
}


class Refused(Exception):
    """A request that is answered with an error instead of being carried out."""

    def __init__(self, code: str, message: str, status: int = 400):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status

    @classmethod
    def because(cls, reason: str, service: str, message: str) -> "Refused":
        """The refusal for one of the reasons of `CODES`, in the words of `service`."""
        by_service = CODES[reason]
        service = "ssm" if service in JSON_SERVICES else service
        code, status = by_service.get(service) or by_service["query"]
        return cls(code, message, status)


def render(refusal: Refused, service: str, method: str, resource: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body of a refusal in the format of `service`. HEAD answers carry no body."""
    request_id = str(uuid.uuid4())
    code, message = escape(refusal.code), escape(refusal.message)
    content_type = "text/xml;charset=UTF-8"
    if service in JSON_SERVICES:
        content_type = "application/x-amz-json-1.1"
        body = json.dumps({"__type": refusal.code, "message": refusal.message})
    elif service == "ec2":
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>{code}</Code><Message>{message}'
            f"</Message></Error></Errors><RequestID>{request_id}</RequestID></Response>"
        )
    elif service == "s3":
        content_type = "application/xml"
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
            f"<Resource>{escape(resource)}</Resource><RequestId>{request_id}</RequestId></Error>"
        )
    else:
        body = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    content = b"" if method == "HEAD" else body.encode()
    headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(content))),
        ("x-amzn-requestid", request_id),
        ("x-amz-request-id", request_id),
    ]
    return refusal.status, headers, content
