"""How AWS answers now and then: late, throttled, in another order. Each knob is off until a test turns it on.

AWS's constant behaviour is elsewhere and has no knob.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from moto.s3.models import s3_backends

from .errors import Refused
from .principals import ACCOUNT, iam
from .request import Request

# Service -> the name and HTTP status of an answer to one call too many.
THROTTLING = {
    "ec2": ("RequestLimitExceeded", 503),
    "s3": ("SlowDown", 503),
    "iam": ("Throttling", 400),
    "sts": ("Throttling", 400),
    "ssm": ("ThrottlingException", 400),
    "monitoring": ("ThrottlingException", 400),
}
# Call that makes a thing -> the parameter with its name, if the caller gives one.
NAMED_BY_CALLER = {
    "CreateRole": "RoleName",
    "CreateInstanceProfile": "InstanceProfileName",
    "ImportKeyPair": "KeyName",
}
# Parameter that names a thing -> the code for one that is not there.
ABSENT = {
    "RoleName": "NoSuchEntity",
    "InstanceProfileName": "NoSuchEntity",
    "IamInstanceProfile.Name": "InvalidParameterValue",
    "KeyName": "InvalidKeyPair.NotFound",
    "GroupId": "InvalidGroup.NotFound",
    "SecurityGroupId": "InvalidGroup.NotFound",
    "InstanceId": "InvalidInstanceID.NotFound",
    "AllocationId": "InvalidAllocationID.NotFound",
}
# Code -> its other names: EC2 has several for one thing, and does not say which call answers which.
OTHER_NAMES = {
    "InvalidGroup.NotFound": ("InvalidGroupId.NotFound", "InvalidSecurityGroupID.NotFound"),
    "InvalidAllocationID.NotFound": ("InvalidAddressID.NotFound", "InvalidAddress.NotFound"),
}
# Calls that make what they name, and calls that take it away again.
MAKING = ("CreateRole", "CreateInstanceProfile", "ImportKeyPair", "DeleteKeyPair")
# The number of reads of which one finds an object, in a bucket that has just begun to keep
# versions.
READS_FOR_ONE = 3


@dataclass
class Settings:
    """The knobs that a test may turn on. Seconds are real ones."""

    # Policies come back with their lists reversed, and lists of one string as that string.
    policies_reordered: bool = False
    # The time for which a new bucket, role, profile, key pair, group, address or instance is
    # unknown.
    unseen_s: float = 0
    # The time for which objects answer 404 to most reads, after their bucket begins to keep
    # versions.
    versions_settle_s: float = 0
    # Service -> [every, seconds]: in each period of `every` seconds it refuses all calls for
    # `seconds`.
    throttled: dict[str, list[float]] = field(default_factory=dict)
    # The account encrypts disks by a key of its own that EC2 may not use.
    disk_key_refused: bool = False
    # The time that must pass between two changes of one volume.
    volume_rest_s: float = 6 * 3600
    # An instance that is told to stop stays `stopping`, also by force, and its machine goes on.
    stop_hangs: bool = False
    # The credits of every burstable instance now, and what they gain in an hour; full and steady
    # unless it is set.
    cpu_credits: list[float] = field(default_factory=list)


class Knobs:
    """The knobs as they are set, and what they need to remember."""

    def __init__(self) -> None:
        self.settings = Settings()
        self._turned = time.monotonic()
        self._made: dict[str, float] = {}
        self._versioned: dict[str, float] = {}
        self._reads = 0
        # Code -> how often it was answered, so that its names take turns.
        self._answered: dict[str, int] = {}

    def turn(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Sets the named knobs; the others stay. ValueError names one that is unknown."""
        unknown = set(changes) - {knob.name for knob in fields(Settings)}
        if unknown:
            raise ValueError(f"unknown knob {', '.join(sorted(unknown))}")
        self.settings = Settings(**(asdict(self.settings) | changes))
        self._turned = time.monotonic()
        return asdict(self.settings)

    def refuse(self, request: Request, operation: str) -> None:
        """Refuses a call that comes too fast or too early."""
        self._throttle(request.service)
        if request.service == "s3":
            self._refuse_object(request, operation)
        elif operation not in MAKING:
            self._refuse_unseen(request)

    def note(self, request: Request, operation: str, body: bytes) -> None:
        """Remembers what a call that succeeded has made, and rewords policies."""
        for name in made_by(request, operation, body):
            self._made[name] = time.monotonic()
        if operation == "PutBucketVersioning":
            self._versioned.setdefault(request.bucket_and_key[0], time.monotonic())
        if self.settings.policies_reordered:
            reword(request, operation)

    def _throttle(self, service: str) -> None:
        every, seconds = self.settings.throttled.get(service, (0, 0))
        if every and (time.monotonic() - self._turned) % every < seconds:
            code, status = THROTTLING[service]
            raise Refused(code, "Rate exceeded.", status)

    def _is_unseen(self, name: str) -> bool:
        return name in self._made and time.monotonic() - self._made[name] < self.settings.unseen_s

    def _refuse_object(self, request: Request, operation: str) -> None:
        bucket, key = request.bucket_and_key
        if operation != "CreateBucket" and self._is_unseen(f"bucket {bucket}"):
            raise Refused("NoSuchBucket", "The specified bucket does not exist", 404)
        since = self._versioned.get(bucket)
        settling = since is not None and time.monotonic() - since < self.settings.versions_settle_s
        if key and settling and operation in ("GetObject", "HeadObject"):
            self._reads += 1
            if self._reads % READS_FOR_ONE:
                raise Refused("NoSuchKey", "The specified key does not exist.", 404)

    def _refuse_unseen(self, request: Request) -> None:
        for parameter, value in request.form.items():
            # NetworkInterface.1.SecurityGroupId.1 names a group as GroupId does.
            kind = parameter if parameter in ABSENT else [part for part in parameter.split(".") if not part.isdigit()][-1]
            if kind in ABSENT and self._is_unseen(f"{ABSENT[kind]} {value}"):
                message = f"Value ({value}) is invalid: Invalid IAM Instance Profile name, or it does not exist"
                raise Refused(self._name(ABSENT[kind]), message, 404 if request.service == "iam" else 400)

    def _name(self, code: str) -> str:
        names = (code, *OTHER_NAMES.get(code, ()))
        count = self._answered.get(code, 0)
        self._answered[code] = count + 1
        return names[count % len(names)]


def made_by(request: Request, operation: str, body: bytes) -> Iterator[str]:
    """Everything that the call has made: the code for its absence, and its name."""
    if operation == "CreateBucket":
        yield f"bucket {request.bucket_and_key[0]}"
    if operation in NAMED_BY_CALLER:
        name = request.form.get(NAMED_BY_CALLER[operation])
        yield f"{ABSENT[NAMED_BY_CALLER[operation]]} {name}"
        if operation == "CreateInstanceProfile":
            yield f"{ABSENT['IamInstanceProfile.Name']} {name}"
    answered = {"CreateSecurityGroup": "groupId", "RunInstances": "instanceId", "AllocateAddress": "allocationId"}
    if operation in answered:
        tag = answered[operation]
        name = body.decode().partition(f"<{tag}>")[2].partition("<")[0]
        yield f"{ABSENT[tag[0].upper() + tag[1:]]} {name}"


def reword(request: Request, operation: str) -> None:
    """Keeps the policy that was just set as S3 and IAM may give it back."""
    if operation == "PutBucketPolicy":
        bucket = s3_backends[ACCOUNT]["aws"].buckets[request.bucket_and_key[0]]
        bucket.policy = json.dumps(reworded(json.loads(bucket.policy))).encode()
    if operation in ("PutRolePolicy", "CreateRole", "UpdateAssumeRolePolicy"):
        role = iam().get_role(request.form["RoleName"])
        trust = role.assume_role_policy_document
        role.assume_role_policy_document = json.dumps(reworded(json.loads(trust)))
        for name, policy in role.policies.items():
            role.policies[name] = json.dumps(reworded(json.loads(policy)))


def reworded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reworded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        inner = [reworded(each) for each in reversed(value)]
        return inner[0] if len(inner) == 1 and isinstance(inner[0], str) else inner
    return value


KNOBS = Knobs()
