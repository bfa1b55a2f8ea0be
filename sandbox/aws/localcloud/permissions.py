"""Checks whether the caller of a request has the permissions that it needs, and records which were asked for."""

import json
from typing import Any

import xmltodict
from moto.s3.models import s3_backends

from . import policy
from .errors import Refused
from .needs import Need, bypasses_governance, needs_of
from .principals import ACCOUNT, Principal, role_with_arn
from .request import Request
from .s3_operations import S3Operation, operation_of

S3_CONTEXT_HEADERS = {
    "s3:if-none-match": "if-none-match",
    "s3:if-match": "if-match",
    "s3:x-amz-acl": "x-amz-acl",
    "s3:x-amz-storage-class": "x-amz-storage-class",
    "s3:x-amz-server-side-encryption": "x-amz-server-side-encryption",
    "s3:x-amz-content-sha256": "x-amz-content-sha256",
    "s3:x-amz-copy-source": "x-amz-copy-source",
}
S3_CONTEXT_PARAMETERS = {
    "s3:prefix": "prefix",
    "s3:delimiter": "delimiter",
    "s3:max-keys": "max-keys",
    "s3:VersionId": "versionId",
}
CREATING_OPERATIONS = {"PutObject": "true", "CopyObject": "true", "CompleteMultipartUpload": "true"}


class Uses:
    """Every permission that was ever asked for, by whom, and whether it was given. In memory, as the cloud is."""

    def __init__(self) -> None:
        self._uses: set[tuple[str, str, str, bool]] = set()

    def note(self, caller: Principal, need: Need, allowed: bool) -> None:
        self._uses.add((caller.arn, need.action, need.resource, allowed))

    def document(self) -> dict[str, Any]:
        keys = ("caller", "action", "resource", "allowed")
        return {"uses": [dict(zip(keys, use, strict=True)) for use in sorted(self._uses)]}


USES = Uses()


class Authorizer:
    """Answers for one request and its caller; the facts that conditions ask about are gathered once."""

    def __init__(self, request: Request, caller: Principal):
        self.request = request
        self.caller = caller
        self.operation = operation_of(request) if request.service == "s3" else None
        self.context = context_of(request, caller, self.operation)

    def check(self) -> None:
        """Refuses the request unless everything that it needs is allowed."""
        for need in needs_of(self.request, self.operation):
            allowed = self.allows(need)
            USES.note(self.caller, need, allowed)
            if not allowed:
                raise Refused.because("denied", self.request.service, self._denial(need))

    def allows(self, need: Need) -> bool:
        arns = (self.caller.arn, self.caller.role_arn) if self.caller.role_arn else (self.caller.arn,)
        resource_policy = bucket_policy(need.resource)
        if need.action == "sts:AssumeRole":
            return self._may_assume(need, arns)
        context = self.context | dict(need.facts)
        return policy.allowed(self.caller.policies, resource_policy, arns, need.action, need.resource, context)

    def _may_assume(self, need: Need, arns: tuple[str, ...]) -> bool:
        """Both sides must agree: the caller's policies, and the role's trust policy."""
        role = role_with_arn(need.resource)
        if role is None:
            return False
        trust = role.assume_role_policy_document
        trust = json.loads(trust) if isinstance(trust, str) else trust
        trusted = [
            statement["Effect"]
            for statement in policy.statements(trust)
            if policy.applies(statement | {"Resource": "*"}, need.action, need.resource, self.context)
            and policy.names_caller(statement, arns, account_counts=True)
        ]
        return (
            "Allow" in trusted
            and "Deny" not in trusted
            and policy.allowed(self.caller.policies, None, arns, need.action, need.resource, self.context)
        )

    def _denial(self, need: Need) -> str:
        sentence = f"User: {self.caller.arn} is not authorized to perform: {need.action} on resource: {need.resource}"
        if self.request.service == "ec2":
            return f"You are not authorized to perform this operation. {sentence}"
        return sentence


def undeletable(authorizer: Authorizer) -> frozenset[str]:
    """The ARNs of those objects listed in a DeleteObjects request that the caller may not delete."""
    bucket, _ = authorizer.request.bucket_and_key
    try:
        listed = xmltodict.parse(authorizer.request.body, strip_whitespace=False)["Delete"].get("Object") or []
    except Exception as problem:
        message = "The XML you provided was not well-formed or did not validate against our published schema"
        raise Refused("MalformedXML", message) from problem
    denied = set()
    for entry in listed if isinstance(listed, list) else [listed]:
        action = "s3:DeleteObjectVersion" if entry.get("VersionId") else "s3:DeleteObject"
        resource = f"arn:aws:s3:::{bucket}/{entry.get('Key')}"
        needs = [Need(action, resource)]
        if entry.get("VersionId") and bypasses_governance(authorizer.request):
            needs.append(Need("s3:BypassGovernanceRetention", resource))
        for need in needs:
            allowed = authorizer.allows(need)
            USES.note(authorizer.caller, need, allowed)
            if not allowed:
                denied.add(resource)
    return frozenset(denied)


def bucket_policy(resource: str) -> policy.Document | None:
    if not resource.startswith("arn:aws:s3:::"):
        return None
    name = resource.removeprefix("arn:aws:s3:::").partition("/")[0]
    bucket = s3_backends[ACCOUNT]["aws"].buckets.get(name)
    return json.loads(bucket.policy) if bucket is not None and bucket.policy else None


def context_of(request: Request, caller: Principal, operation: S3Operation | None) -> policy.Context:
    """The condition keys that are known about a request."""
    context = {
        "aws:SecureTransport": "true" if request.secure else "false",
        "aws:SourceIp": request.peer,
        "aws:PrincipalArn": caller.role_arn or caller.arn,
        "aws:PrincipalAccount": ACCOUNT,
        "aws:ResourceAccount": ACCOUNT,
        "aws:userid": caller.user_id,
        "aws:RequestedRegion": request.region,
    }
    if operation is not None:
        for key, header in S3_CONTEXT_HEADERS.items():
            if header in request.headers:
                context[key] = request.headers[header]
        for key, parameter in S3_CONTEXT_PARAMETERS.items():
            if parameter in request.query:
                context[key] = request.query[parameter]
        if request.method in ("PUT", "POST"):
            context["s3:ObjectCreationOperation"] = CREATING_OPERATIONS.get(operation.name, "false")
    return context
