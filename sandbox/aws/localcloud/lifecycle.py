"""Instance states as they pass on AWS: what takes a real machine time lasts until the supervisor acknowledges it.

    pending --ack running--> running --stop--> stopping --ack stopped--> stopped --start--> pending
    any state --terminate--> shutting-down --ack terminated--> terminated

What belongs to the end of a transition (losing the public address when stopped, interface and volumes when terminated)
is done at the acknowledgement, not at the call.
"""

from collections.abc import Iterable
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError, InvalidParameterCombination, OperationNotPermitted4
from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import Instance, InstanceState, StateReason
from moto.ec2.responses.instances import InstanceResponse

from .network import disassociate, elastic_address_of
from .principals import ACCOUNT

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
# Acknowledgements that count, by the state that the instance is in. Others come too late and change nothing.
# running -> stopped is a machine that was shut down from inside.
ACKNOWLEDGEABLE = {
    "running": ("pending",),
    "stopped": ("stopping", "running"),
    "terminated": ("pending", "running", "stopping", "stopped", "shutting-down"),
}
# Call -> (states in which it acts, states in which it changes nothing, state that it leads to, word for the error)
CALLS = {
    "start": (("stopped",), ("pending", "running"), "pending", "started"),
    "stop": (("running",), ("stopping", "stopped"), "stopping", "stopped"),
    "reboot": (("running",), (), "running", "rebooted"),
}

stop_in_moto, start_in_moto, terminate_in_moto = Instance.stop, Instance.start, Instance.terminate


def set_state(instance: Instance, name: str) -> None:
    instance._state = InstanceState(name, CODES[name])


def begin(instance: Instance) -> None:
    """A new instance is pending, and is wanted to boot once."""
    set_state(instance, "pending")
    instance.boot_count_wanted = 1


def end_by_itself(instance: Instance, code: str, message: str) -> None:
    """An instance that EC2 gives up on the way: it is on its way to terminated, and says why."""
    set_state(instance, "shutting-down")
    instance.given_up = instance.state_reason = StateReason(message, code)


def check(instances: Iterable[Instance], call: str) -> None:
    """Refuses the whole call if one of the instances is in a state from which it cannot be made."""
    acting, idle, _, word = CALLS[call]
    for instance in instances:
        if instance.state not in acting + idle:
            message = f"The instance '{instance.id}' is not in a state from which it can be {word}."
            raise EC2ClientError("IncorrectInstanceState", message)


def change(instance: Instance, call: str) -> InstanceState:
    """Carries out the start of a transition; returns the state before it."""
    acting, _, target, _ = CALLS[call]
    before = InstanceState(instance.state, instance.state_code)
    if instance.state not in acting:
        return before
    if call == "start":
        start_in_moto(instance)
        instance.boot_count_wanted += 1
    if call == "reboot":
        instance.boot_count_wanted += 1
    set_state(instance, target)
    return before


def terminate(instance: Instance) -> InstanceState:
    before = InstanceState(instance.state, instance.state_code)
    if instance.state != "terminated":
        set_state(instance, "shutting-down")
    return before


def acknowledge(instance: Instance, state: str) -> bool:
    """Ends a transition as the supervisor says. False if the instance has moved on meanwhile."""
    if instance.state not in ACKNOWLEDGEABLE[state]:
        return False
    if state == "stopped":
        stop_in_moto(instance)
    if state == "terminated":
        for interface in instance.nics.values():
            elastic = elastic_address_of(interface)
            if elastic is not None:
                disassociate(elastic)
            interface.delete_on_termination = True
        terminate_in_moto(instance)
        instance.state_reason = getattr(instance, "given_up", instance.state_reason)
        instance.security_groups = []
    set_state(instance, state)
    return True


def find(instance_id: str) -> Instance | None:
    """Returns the instance with this id, in any region."""
    return next((instance for instance in all_instances() if instance.id == instance_id), None)


def all_instances() -> list[Instance]:
    return [instance for backend in list(ec2_backends[ACCOUNT].values()) for instance in backend.all_instances()]


def install() -> None:
    """Replaces moto's calls, in which every transition is over at once."""

    def selected(self: InstanceResponse) -> list[Instance]:
        return self.ec2_backend.get_multi_instances_by_id(self._get_param("InstanceIds", []))

    def answer(key: str, changed: list[tuple[Instance, InstanceState]]) -> ActionResult:
        entries = [
            {"InstanceId": instance.id, "CurrentState": instance.instance_state, "PreviousState": before}
            for instance, before in changed
        ]
        return ActionResult({key: entries})

    def start_instances(self: InstanceResponse) -> ActionResult:
        instances = selected(self)
        self.error_on_dryrun()
        check(instances, "start")
        return answer("StartingInstances", [(instance, change(instance, "start")) for instance in instances])

    def stop_instances(self: InstanceResponse) -> ActionResult:
        instances = selected(self)
        self.error_on_dryrun()
        check(instances, "stop")
        return answer("StoppingInstances", [(instance, change(instance, "stop")) for instance in instances])

    def reboot_instances(self: InstanceResponse) -> Any:
        instances = selected(self)
        self.error_on_dryrun()
        check(instances, "reboot")
        for instance in instances:
            change(instance, "reboot")
        return EmptyResult()

    def terminate_instances(self: InstanceResponse) -> ActionResult:
        instances = selected(self)
        if not instances:
            raise InvalidParameterCombination("No instances specified")
        self.error_on_dryrun()
        for instance in instances:
            if instance.disable_api_termination is True:
                raise OperationNotPermitted4(instance.id)
        return answer("TerminatingInstances", [(instance, terminate(instance)) for instance in instances])

    def absent_when_terminated(name: str, absent: Any) -> property:
        present = getattr(Instance, name).fget
        return property(lambda self: absent if self._state.name == "terminated" else present(self))

    absent = {"private_ip": None, "private_ip_address": None, "subnet_id": None, "vpc_id": None}
    for name, value in (absent | {"private_dns_name": "", "network_interfaces": []}).items():
        setattr(Instance, name, absent_when_terminated(name, value))
    for call in (start_instances, stop_instances, reboot_instances, terminate_instances):
        setattr(InstanceResponse, call.__name__, call)
