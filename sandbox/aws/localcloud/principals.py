"""The callers: users with their access keys, roles with their temporary credentials, and the policies of each.

The operator is an IAM user made at start, inside the process, because nobody could sign the request that would make it.
Role credentials for instances are made here too, as EC2 makes them for its metadata service.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.iam.models import IAMBackend, Role, User, iam_backends
from moto.sts.models import AssumedRole, sts_backends

ACCOUNT = "123456789012"
OPERATOR = "operator"
ROLE_SESSION = timedelta(hours=6)
ROLE_SESSION_RENEWAL = timedelta(minutes=30)
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@dataclass(frozen=True)
class Principal:
    """A caller: `arn` is the session's for a role, and `role_arn` then names the role."""

    arn: str
    user_id: str
    policies: tuple[dict[str, Any], ...]
    role_arn: str | None = None


@dataclass(frozen=True)
class Credentials:
    """What an access key id stands for. `token` and `expires` only with temporary ones."""

    secret: str
    owner: User | AssumedRole
    token: str | None = None
    expires: datetime | None = None


def iam() -> IAMBackend:
    return iam_backends[ACCOUNT]["aws"]


def create_operator() -> tuple[str, str]:
    """Makes the administrator and returns its access key id and secret."""
    iam().create_user("us-east-1", OPERATOR)
    iam().put_user_policy(OPERATOR, "everything", json.dumps(EVERYTHING))
    key = iam().create_access_key(OPERATOR, prefix="AKIA")
    return key.access_key_id, key.secret_access_key


def credentials_of(access_key_id: str) -> Credentials | None:
    """The credentials with this id, unless they are unknown or switched off."""
    for user in iam().users.values():
        for key in user.access_keys:
            if key.access_key_id == access_key_id and key.status == "Active":
                return Credentials(secret=key.secret_access_key, owner=user)
    session = sts_backends[ACCOUNT]["aws"].get_assumed_role_from_access_key(access_key_id)
    if session is None:
        return None
    return Credentials(
        secret=session.secret_access_key,
        owner=session,
        token=session.session_token,
        expires=session.expiration.replace(tzinfo=UTC),
    )


def principal_of(credentials: Credentials) -> Principal:
    """The caller with the policies in force now: a policy that changes counts from the next request on."""
    owner = credentials.owner
    if isinstance(owner, AssumedRole):
        role = role_with_arn(owner.role_arn)
        policies = documents(role) if role else ()
        return Principal(arn=owner.arn, user_id=owner.user_id, policies=policies, role_arn=owner.role_arn)
    policies = documents(owner)
    for group in iam().groups.values():
        if any(member.name == owner.name for member in group.users):
            policies += documents(group)
    return Principal(arn=owner.arn, user_id=owner.id, policies=policies)


def role_with_arn(arn: str) -> Role | None:
    return next((role for role in iam().roles.values() if role.arn == arn), None)


def documents(holder: Any) -> tuple[dict[str, Any], ...]:
    """The policy documents of a user, group or role: inline ones and the default versions of attached ones."""
    inline = [json.loads(document) if isinstance(document, str) else document for document in holder.policies.values()]
    attached = []
    for policy in holder.managed_policies.values():
        version = next(version for version in policy.versions if version.is_default)
        attached.append(json.loads(version.document) if isinstance(version.document, str) else version.document)
    return tuple(inline + attached)


class RoleSessions:
    """Temporary credentials per instance and role, kept until shortly before they expire, as IMDS keeps them."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str], tuple[AssumedRole, datetime]] = {}

    def metadata_document(self, instance_id: str, role_arn: str, now: datetime) -> dict[str, str]:
        """The JSON that the metadata service answers for `iam/security-credentials/<role>`."""
        session, made_at = self._sessions.get((instance_id, role_arn), (None, now))
        if session is None or session.expiration.replace(tzinfo=UTC) - now < ROLE_SESSION_RENEWAL:
            session, made_at = assume(role_arn, instance_id), now
            self._sessions[(instance_id, role_arn)] = (session, made_at)
        return {
            "Code": "Success",
            "LastUpdated": made_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Type": "AWS-HMAC",
            "AccessKeyId": session.access_key_id,
            "SecretAccessKey": session.secret_access_key,
            "Token": session.session_token,
            "Expiration": session.expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


def assume(role_arn: str, session_name: str) -> AssumedRole:
    return sts_backends[ACCOUNT]["aws"].assume_role(
        region_name="us-east-1",
        role_session_name=session_name,
        role_arn=role_arn,
        policy=None,
        duration=int(ROLE_SESSION.total_seconds()),
        external_id=None,
    )
