"""The world as the machines' supervisor sees it: what each instance's machine needs, and a version to wait on."""

import threading
import time
from typing import Any

from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance

from . import lifecycle
from .knobs import KNOBS
from .network import elastic_address_of
from .network_acls import acl_of
from .principals import ACCOUNT, iam
from .security_groups import ingress_of

READING_CALLS = ("Describe", "Get", "List")
ADDRESSED_STATES = ("pending", "running", "stopping")


class Version:
    """A number that rises with every change, and a way to wait for it to rise."""

    def __init__(self) -> None:
        self._number = 1
        self._changed = threading.Condition()

    @property
    def number(self) -> int:
        return self._number

    def rise(self) -> None:
        with self._changed:
            self._number += 1
            self._changed.notify_all()

    def wait_beyond(self, known: int, timeout_seconds: float) -> None:
        """Returns once the version is another than `known` (it is lower after a restart), or when time is up."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while self._number == known and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)


def changes_the_world(service: str, operation: str) -> bool:
    """Returns whether a call may change what machines see. IAM counts: a profile's role belongs to an instance."""
    return service in ("ec2", "iam") and not operation.startswith(READING_CALLS)


def snapshot(version: int) -> dict[str, Any]:
    """Returns the document that the supervisor reads. Call it under the front's lock."""
    return {"version": version, "instances": [describe(instance) for instance in lifecycle.all_instances()]}


def describe(instance: Instance) -> dict[str, Any]:
    primary = instance.nics.get(0)
    present = primary is not None and instance.state != "terminated"
    elastic = elastic_address_of(primary) if present else None
    public_ip = primary.public_ip if present else None
    profile = instance.iam_instance_profile or {}
    role = role_of(profile.get("Arn"))
    return {
        "id": instance.id,
        # A stop that hangs leaves the machine as it is.
        "state": "running" if hangs(instance) else instance.state,
        "boot_count_wanted": instance.boot_count_wanted,
        "region": instance.region_name,
        "zone": instance.placement.availability_zone,
        "type": instance.instance_type,
        "memory_mib": INSTANCE_TYPES.get(instance.instance_type, {}).get("MemoryInfo", {}).get("SizeInMiB"),
        "image": instance.image_id,
        "mac": primary.mac_address if primary else None,
        "private_ip": instance.private_ip,
        "addresses": [public_ip] if public_ip and instance.state in ADDRESSED_STATES else [],
        "public_ip": elastic.public_ip if elastic else public_ip,
        "user_data": str(instance.user_data or ""),
        "key_name": instance.key_name,
        "public_key": instance.launch_public_key,
        "role": role.name if role else None,
        "profile_arn": profile.get("Arn"),
        "ingress": ingress_of(instance) if present else [],
        "acl": acl_of(instance) if present else None,
        "tags": {tag["key"]: tag["value"] for tag in instance.get_tags()},
        "account": ACCOUNT,
    }


def hangs(instance: Instance) -> bool:
    return KNOBS.settings.stop_hangs and instance.state == "stopping"


def role_of(profile_arn: str | None) -> Any:
    """The role in an instance profile; None without a profile, or when it is empty or deleted."""
    for profile in iam().instance_profiles.values():
        if profile.arn == profile_arn and profile.roles:
            return profile.roles[0]
    return None
