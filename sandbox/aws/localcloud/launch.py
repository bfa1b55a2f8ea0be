"""RunInstances as a provisioning tool meets it: validated, idempotent by client token, into the default VPC."""

import hashlib
import json
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2 import utils
from moto.ec2.exceptions import EC2ClientError, InvalidSubnetIdError
from moto.ec2.models.instances import Reservation
from moto.ec2.responses._base_response import EC2BaseResponse
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.utils import filter_iam_instance_profiles

from . import lifecycle
from .knobs import KNOBS

NOT_COMPARED = ("ClientToken", "DryRun")
run_in_moto = InstanceResponse.run_instances


class LaunchTokens:
    """Client tokens that were used, per zone, with what was asked and what came of it.

    Source: EC2 Developer Guide, "Ensuring idempotency": a token counts for a zone, and launches once more in another.
    """

    def __init__(self) -> None:
        self._launches: dict[tuple[str, str], tuple[str, Reservation]] = {}

    def earlier(self, zone: str, token: str, fingerprint: str) -> Reservation | None:
        """Returns what this token launched before; refuses the same token with other parameters."""
        known = self._launches.get((zone, token))
        if known is None:
            return None
        if known[0] != fingerprint:
            message = (
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s)."
            )
            raise EC2ClientError("IdempotentParameterMismatch", message)
        return known[1]

    def remember(self, zone: str, token: str, fingerprint: str, reservation: Reservation) -> None:
        self._launches[(zone, token)] = (fingerprint, reservation)


TOKENS = LaunchTokens()


def install() -> None:
    """Replaces moto's RunInstances and lets instances be found by their client token."""
    utils.filter_dict_attribute_mapping["client-token"] = "client_token"
    utils.filter_dict_attribute_mapping["iam-instance-profile.arn"] = "iam_instance_profile.Arn"
    utils.filter_dict_attribute_mapping["reservation-id"] = "reservation_id"
    # moto words every answer to RunInstances as pending; a repeated token must show the state that is.
    EC2BaseResponse.RESPONSE_KEY_PATH_TO_TRANSFORMER.pop("RunInstances.Reservation.Instances.Instance.State", None)
    InstanceResponse.run_instances = run_instances


def run_instances(self: InstanceResponse) -> ActionResult:
    token = self._get_param("ClientToken")
    fingerprint = fingerprint_of(self.params)
    zone = zone_of(self)
    if token:
        earlier = TOKENS.earlier(zone, token, fingerprint)
        if earlier is not None:
            return ActionResult(earlier)
    image = validate(self)
    self.error_on_dryrun()
    public_key = public_key_of(self)
    complete(self, image)
    reservation = run_in_moto(self).result
    for instance in reservation.instances:
        settle(self, instance, reservation, token, public_key)
    if token:
        TOKENS.remember(zone, token, fingerprint, reservation)
    return ActionResult(reservation)


def zone_of(self: InstanceResponse) -> str:
    """The zone that the call names, by a subnet or itself; the region if it names none."""
    interfaces = [interface.get("SubnetId") for interface in self._get_param("NetworkInterfaces", [])]
    named = next(filter(None, [self._get_param("SubnetId"), *interfaces]), None)
    subnet = next((subnet for subnet in self.ec2_backend.describe_subnets() if subnet.id == named), None)
    return subnet.availability_zone if subnet else self._get_param("Placement.AvailabilityZone") or self.region


def fingerprint_of(parameters: Any) -> str:
    asked = {name: value for name, value in dict(parameters).items() if name not in NOT_COMPARED}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=repr).encode()).hexdigest()


def validate(self: InstanceResponse) -> Any:
    """Refuses what AWS refuses, before anything is made and also on a dry run. Returns the image."""
    backend = self.ec2_backend
    minimum, maximum = int(self._get_param("MinCount", 1)), int(self._get_param("MaxCount", 1))
    if not 1 <= minimum <= maximum:
        message = f"Value ({minimum}) for parameter minCount is invalid. It must be between 1 and maxCount ({maximum})."
        raise EC2ClientError("InvalidParameterValue", message)
    image_id = self._get_param("ImageId")
    if not image_id:
        raise EC2ClientError("MissingParameter", "The request must contain the parameter ImageId")
    image = backend.describe_images(ami_ids=[image_id])[0]
    if image.state != "available":
        raise EC2ClientError("InvalidAMIID.Unavailable", f"The image ID '{image_id}' is not available")
    type_name = self._get_param("InstanceType", "m1.small")
    known = [kind for kind in backend.describe_instance_types() if kind["InstanceType"] == type_name]
    if not known:
        message = f"Invalid value '{type_name}' for InstanceType."
        raise EC2ClientError("InvalidParameterValue", message)
    architectures = known[0].get("ProcessorInfo", {}).get("SupportedArchitectures", [])
    if image.architecture not in architectures:
        message = (
            f"The architecture '{', '.join(architectures)}' of the specified instance type does not match the "
            f"architecture '{image.architecture}' of the specified AMI."
        )
        raise EC2ClientError("InvalidParameterValue", message)
    key_name = self._get_param("KeyName")
    if key_name and key_name not in backend.key_pairs:
        raise EC2ClientError("InvalidKeyPair.NotFound", f"The key pair '{key_name}' does not exist")
    interfaces = self._get_param("NetworkInterfaces", [])
    groups = list(self._get_param("SecurityGroupIds", []))
    if interfaces and groups:
        message = "Network interfaces and an instance-level security groups may not be specified on the same request"
        raise EC2ClientError("InvalidParameterCombination", message)
    subnets = [self._get_param("SubnetId")]
    for interface in interfaces:
        groups += interface.get("Groups", [])
        subnets.append(interface.get("SubnetId"))
    for group in groups:
        if backend.get_security_group_from_id(group) is None:
            raise EC2ClientError("InvalidGroup.NotFound", f"The security group '{group}' does not exist")
    for subnet in filter(None, subnets):
        backend.get_subnet(subnet)
    validate_profile(self)
    return image


def validate_profile(self: InstanceResponse) -> None:
    name, arn = self._get_param("IamInstanceProfile.Name"), self._get_param("IamInstanceProfile.Arn")
    if not name and not arn:
        return
    try:
        filter_iam_instance_profiles(
            self.current_account,
            partition=self.partition,
            iam_instance_profile_arn=arn,
            iam_instance_profile_name=name,
        )
    except Exception as problem:
        kind = "Name" if name else "ARN"
        message = f"Value ({name or arn}) for parameter iamInstanceProfile.{kind.lower()} is invalid. "
        raise EC2ClientError(
            "InvalidParameterValue", message + f"Invalid IAM Instance Profile {kind.lower()}"
        ) from problem


def public_key_of(self: InstanceResponse) -> str | None:
    """The key at this moment: deleting the key pair later does not take it from the machine."""
    pair = self.ec2_backend.key_pairs.get(self._get_param("KeyName"))
    return pair.public_key.strip() if pair else None


def complete(self: InstanceResponse, image: Any) -> None:
    """Fills in what AWS assumes: all of MaxCount, a default subnet, the image's root volume."""
    parameters = self.params
    parameters["MinCount"] = int(self._get_param("MaxCount", 1))
    interfaces = parameters.get("NetworkInterfaces") or []
    if interfaces:
        for interface in interfaces:
            if not interface.get("SubnetId") and not interface.get("NetworkInterfaceId"):
                interface["SubnetId"] = default_subnet(self)
    elif not parameters.get("SubnetId"):
        parameters["SubnetId"] = default_subnet(self)
    mappings = list(parameters.get("BlockDeviceMappings") or [])
    root = image.block_device_mappings[0]
    own = next((mapping for mapping in mappings if mapping.get("DeviceName") == image.root_device_name), None)
    if own is None:
        mappings.insert(0, {"DeviceName": image.root_device_name, "Ebs": {}})
        own = mappings[0]
    for mapping in mappings:
        if "Ebs" in mapping:
            mapping["Ebs"].setdefault("DeleteOnTermination", True)
    own.setdefault("Ebs", {}).setdefault("VolumeSize", root["Ebs"]["VolumeSize"])
    own["Ebs"].setdefault("VolumeType", root["Ebs"]["VolumeType"])
    own["Ebs"].setdefault("DeleteOnTermination", True)
    parameters["BlockDeviceMappings"] = mappings


def default_subnet(self: InstanceResponse) -> str:
    by_zone = {subnet.availability_zone: subnet for subnet in self.ec2_backend.get_default_subnets().values()}
    zone = self._get_param("Placement.AvailabilityZone") or next(iter(sorted(by_zone)), None)
    if zone not in by_zone:
        raise InvalidSubnetIdError(f"default subnet in {zone}")
    return by_zone[zone].id


def settle(self: InstanceResponse, instance: Any, reservation: Any, token: str | None, public_key: str | None) -> None:
    """Makes a new instance what AWS shows: pending, with its primary interface's groups, its profile and its tags."""
    lifecycle.begin(instance)
    if KNOBS.settings.disk_key_refused:
        lifecycle.end_by_itself(instance, "Client.InternalError", "Client.InternalError: Client error on launch")
    instance.reservation_id = reservation.id
    instance.client_token = token
    instance.launch_public_key = public_key
    instance.security_groups = list(instance.nics[0].group_set)
    interface_tags = self._parse_tag_specification().get("network-interface", {})
    for interface in instance.nics.values():
        interface.add_tags(interface_tags)
        for address in interface.private_ip_addresses:
            address.setdefault("PrivateDnsName", instance.private_dns_name)
    name, arn = self._get_param("IamInstanceProfile.Name"), self._get_param("IamInstanceProfile.Arn")
    if (name or arn) and instance.id not in self.ec2_backend.iam_instance_profile_associations:
        self.ec2_backend.associate_iam_instance_profile(
            instance_id=instance.id, iam_instance_profile_name=name, iam_instance_profile_arn=arn
        )
