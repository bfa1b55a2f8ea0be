"""Which permissions a request needs, and whether its caller has them.

S3 and SSM are checked against the exact bucket, object or parameter; IAM and STS against the entity named; EC2 against
the instances named in the call and otherwise against `*`, which is coarser than AWS.
"""

import json
from dataclasses import dataclass
from urllib.parse import unquote

import xmltodict
from moto.s3.models import s3_backends

from . import policy
from .errors import Refused
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
IAM_ENTITIES = {"RoleName": "role", "InstanceProfileName": "instance-profile", "UserName": "user", "GroupName": "group"}


@dataclass(frozen=True)
class Need:
    """One action on one resource (an ARN or `*`)."""

    action: str
    resource: str


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
            if not self.allows(need):
                raise Refused.because("denied", self.request.service, self._denial(need))

    def allows(self, need: Need) -> bool:
        arns = (self.caller.arn, self.caller.role_arn) if self.caller.role_arn else (self.caller.arn,)
        resource_policy = bucket_policy(need.resource)
        if need.action == "sts:AssumeRole":
            return self._may_assume(need, arns)
        return policy.allowed(self.caller.policies, resource_policy, arns, need.action, need.resource, self.context)

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


def needs_of(request: Request, operation: S3Operation | None) -> list[Need]:
    """Everything that the caller must be allowed to do. GetCallerIdentity needs nothing, as on AWS."""
    if operation is not None:
        return s3_needs(request, operation)
    name = f"{request.service}:{request.operation}"
    if request.service == "ssm":
        return [Need(name, resource) for resource in parameter_arns(request)]
    if request.service == "sts":
        return [] if request.operation == "GetCallerIdentity" else [Need(name, request.form.get("RoleArn", "*"))]
    if request.service == "iam":
        return iam_needs(request, name)
    return ec2_needs(request, name)


def s3_needs(request: Request, operation: S3Operation) -> list[Need]:
    bucket, key = request.bucket_and_key
    resource = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}" if bucket else "*"
    if operation.name == "DeleteObjects":
        return []  # each key is asked about on its own, see `undeletable`
    needs = [Need(operation.action, resource)]
    if operation.name in ("CopyObject", "UploadPartCopy"):
        source = unquote(request.headers["x-amz-copy-source"]).lstrip("/").partition("?")[0]
        needs.append(Need("s3:GetObject", f"arn:aws:s3:::{source}"))
    if "if-match" in request.headers and request.method in ("PUT", "POST", "DELETE") and key:
        needs.append(Need("s3:GetObject", resource))
    if "x-amz-tagging" in request.headers and operation.name in ("PutObject", "CreateMultipartUpload"):
        needs.append(Need("s3:PutObjectTagging", resource))
    return needs


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
        if not authorizer.allows(Need(action, resource)):
            denied.add(resource)
    return frozenset(denied)


def parameter_arns(request: Request) -> list[str]:
    parameters = request.json
    names = [parameters[key] for key in ("Name", "Path", "ResourceId") if isinstance(parameters.get(key), str)]
    names += parameters.get("Names") or []
    prefix = f"arn:aws:ssm:{request.region}:{ACCOUNT}:parameter"
    return [name if name.startswith("arn:") else f"{prefix}/{name.strip('/')}" for name in names] or ["*"]


def iam_needs(request: Request, name: str) -> list[Need]:
    form = request.form
    for parameter, kind in IAM_ENTITIES.items():
        if parameter == "RoleName" and "InstanceProfileName" in form:
            continue
        if parameter in form:
            path = form.get("Path", "/")
            needs = [Need(name, f"arn:aws:iam::{ACCOUNT}:{kind}{path}{form[parameter]}")]
            if request.operation == "AddRoleToInstanceProfile":
                needs.append(Need("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/{form.get('RoleName', '')}"))
            return needs
    return [Need(name, form.get("PolicyArn", "*"))]


def ec2_needs(request: Request, name: str) -> list[Need]:
    instances = [value for key, value in request.form.items() if key.startswith("InstanceId")]
    if request.operation.startswith("Describe") or not instances:
        return [Need(name, "*")]
    return [Need(name, f"arn:aws:ec2:{request.region}:{ACCOUNT}:instance/{instance}") for instance in instances]


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
    if request.service == "iam":
        context["iam:PassedToService"] = "ec2.amazonaws.com"
    return context
