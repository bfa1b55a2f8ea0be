"""Another instance type, and a larger disk: what EC2 changes in place, and under which conditions.

Sources: EC2 User Guide, "Change the instance type"; EBS User Guide, "Modify a volume", "Monitor volume modifications".
"""

import time
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.elastic_block_store import VolumeModification
from moto.ec2.models.instances import Instance
from moto.ec2.responses.elastic_block_store import ElasticBlockStore
from moto.ec2.responses.instances import InstanceResponse

from .knobs import KNOBS

# A change begins in the state modifying; its size is there from optimizing on.
MODIFYING_S = 0.5
OPTIMIZING_S = 1.0

modify_attribute_in_moto = InstanceResponse.modify_instance_attribute
modify_volume_in_moto = ElasticBlockStore.modify_volume


def install() -> None:
    """Replaces moto's calls, which change everything at any time and at once."""
    InstanceResponse.modify_instance_attribute = modify_instance_attribute
    ElasticBlockStore.modify_volume = modify_volume
    begin = VolumeModification.__init__

    def begun(self: VolumeModification, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        self.begun = time.monotonic()

    VolumeModification.__init__ = begun
    VolumeModification.modification_state = property(state_of)
    VolumeModification.progress = property(lambda self: 100 if state_of(self) == "completed" else 0)


def state_of(modification: VolumeModification) -> str:
    age = time.monotonic() - modification.begun
    if age < MODIFYING_S:
        return "modifying"
    return "optimizing" if age < MODIFYING_S + OPTIMIZING_S else "completed"


def modify_instance_attribute(self: InstanceResponse) -> Any:
    wanted = self._get_param("InstanceType.Value")
    if self._get_param("Attribute") == "instanceType":
        wanted = self._get_param("Value")
    if not wanted:
        return modify_attribute_in_moto(self)
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    check_type(self, instance, wanted)
    self.error_on_dryrun()
    instance.instance_type = wanted
    return ActionResult({})


def check_type(self: InstanceResponse, instance: Instance, wanted: str) -> None:
    known = [kind for kind in self.ec2_backend.describe_instance_types() if kind["InstanceType"] == wanted]
    if not known:
        message = f"Invalid value '{wanted}' for InstanceType."
        raise EC2ClientError("InvalidInstanceAttributeValue", message)
    architectures = known[0].get("ProcessorInfo", {}).get("SupportedArchitectures", [])
    if instance.architecture not in architectures:
        message = (
            f"The architecture '{', '.join(architectures)}' of the specified instance type does not match the "
            f"architecture '{instance.architecture}' of the instance."
        )
        raise EC2ClientError("InvalidInstanceAttributeValue", message)
    if instance.state != "stopped":
        message = f"The instance '{instance.id}' is not in the 'stopped' state."
        raise EC2ClientError("IncorrectInstanceState", message)


def modify_volume(self: ElasticBlockStore) -> ActionResult:
    volume = self.ec2_backend.get_volume(self._get_param("VolumeId"))
    size = self._get_param("Size")
    if size and int(size) < volume.size:
        raise EC2ClientError("InvalidParameterValue", "New size cannot be smaller than existing size")
    if volume.modifications:
        last = volume.modifications[-1]
        if state_of(last) != "completed":
            message = f"Volume '{volume.id}' is in state '{state_of(last)}'. Can't modify volume in this state."
            raise EC2ClientError("IncorrectModificationState", message)
        if time.monotonic() - last.begun < KNOBS.settings.volume_rest_s:
            message = (
                "You've reached the maximum modification rate per volume limit. Wait at least 6 hours between "
                "modifications per EBS volume."
            )
            raise EC2ClientError("VolumeModificationRateExceeded", message)
    if size:
        self.params["Size"] = int(size)
    return modify_volume_in_moto(self)
