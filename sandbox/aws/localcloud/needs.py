"""What a request needs permission for: an action on a resource, with the facts that conditions ask of that pair.

Source: Service Authorization Reference, "Actions, resources, and condition keys" for EC2, S3, IAM, Systems Manager and
CloudWatch, whose figures belong to no resource.
S3 and SSM are asked about the exact bucket, object or parameter, IAM and STS about the entity named, EC2 about every
resource that a call names or makes (`ec2_needs`).
"""

from dataclasses import dataclass
from urllib.parse import unquote

from . import ec2_needs
from .principals import ACCOUNT
from .request import Request
from .s3_operations import S3Operation

IAM_ENTITIES = {"RoleName": "role", "InstanceProfileName": "instance-profile", "UserName": "user", "GroupName": "group"}
# Calls that also need permission to tag if they bring tags.
IAM_TAGGING = {"CreateRole": "iam:TagRole", "CreateInstanceProfile": "iam:TagInstanceProfile"}
PASSED_TO_EC2 = (("iam:PassedToService", "ec2.amazonaws.com"),)


@dataclass(frozen=True)
class Need:
    """One action on one resource (an ARN or `*`)."""

    action: str
    resource: str
    facts: tuple[tuple[str, str], ...] = ()


def needs_of(request: Request, operation: S3Operation | None) -> list[Need]:
    """Everything that the caller must be allowed to do. GetCallerIdentity needs nothing, as on AWS."""
    if operation is not None:
        return s3_needs(request, operation)
    name = f"{request.service}:{request.operation}"
    if request.service == "monitoring":
        return [Need(f"cloudwatch:{request.operation}", "*")]
    if request.service == "ssm":
        return ssm_needs(request, name)
    if request.service == "sts":
        return [] if request.operation == "GetCallerIdentity" else [Need(name, request.form.get("RoleArn", "*"))]
    if request.service == "iam":
        return iam_needs(request, name)
    return [Need(*each) for each in ec2_needs.of(request)]


def s3_needs(request: Request, operation: S3Operation) -> list[Need]:
    bucket, key = request.bucket_and_key
    resource = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}" if bucket else "*"
    if operation.name == "DeleteObjects":
        return []  # each key is asked about on its own, see `permissions.undeletable`
    needs = [Need(operation.action, resource)]
    if operation.name in ("CopyObject", "UploadPartCopy"):
        source = unquote(request.headers["x-amz-copy-source"]).lstrip("/").partition("?")[0]
        needs.append(Need("s3:GetObject", f"arn:aws:s3:::{source}"))
    if "if-match" in request.headers and request.method in ("PUT", "POST", "DELETE") and key:
        needs.append(Need("s3:GetObject", resource))
    if "x-amz-tagging" in request.headers and operation.name in ("PutObject", "CreateMultipartUpload"):
        needs.append(Need("s3:PutObjectTagging", resource))
    if "x-amz-object-lock-mode" in request.headers and key:
        needs.append(Need("s3:PutObjectRetention", resource))
    if bypasses_governance(request) and key:
        needs.append(Need("s3:BypassGovernanceRetention", resource))
    if operation.name == "CreateBucket" and "x-amz-bucket-object-lock-enabled" in request.headers:
        needs += [Need("s3:PutBucketObjectLockConfiguration", resource), Need("s3:PutBucketVersioning", resource)]
    return needs


def bypasses_governance(request: Request) -> bool:
    return request.headers.get("x-amz-bypass-governance-retention", "").lower() == "true"


def ssm_needs(request: Request, name: str) -> list[Need]:
    needs = [Need(name, resource) for resource in parameter_arns(request)]
    if request.operation == "PutParameter" and request.json.get("Tags"):
        needs += [Need("ssm:AddTagsToResource", need.resource) for need in needs]
    return needs


def parameter_arns(request: Request) -> list[str]:
    parameters = request.json
    names = [parameters[key] for key in ("Name", "Path", "ResourceId") if isinstance(parameters.get(key), str)]
    names += parameters.get("Names") or []
    return [name if name.startswith("arn:") else parameter_arn(request.region, name) for name in names] or ["*"]


def parameter_arn(region: str, name: str) -> str:
    """What AWS publishes itself belongs to no account."""
    account = "" if name.startswith("/aws/") else ACCOUNT
    return f"arn:aws:ssm:{region}:{account}:parameter/{name.strip('/')}"


def iam_needs(request: Request, name: str) -> list[Need]:
    form = request.form
    for parameter, kind in IAM_ENTITIES.items():
        if parameter == "RoleName" and "InstanceProfileName" in form:
            continue
        if parameter in form:
            path = form.get("Path", "/")
            needs = [Need(name, f"arn:aws:iam::{ACCOUNT}:{kind}{path}{form[parameter]}")]
            if request.operation in IAM_TAGGING and any(each.startswith("Tags.member.") for each in form):
                needs.append(Need(IAM_TAGGING[request.operation], needs[0].resource))
            if request.operation == "AddRoleToInstanceProfile":
                role = f"arn:aws:iam::{ACCOUNT}:role/{form.get('RoleName', '')}"
                needs.append(Need("iam:PassRole", role, PASSED_TO_EC2))
            return needs
    return [Need(name, form.get("PolicyArn", "*"))]
