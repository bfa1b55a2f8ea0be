"""Security groups as AWS guards them: not deleted while in use, all rules of a call or none, each new rule answered."""

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import Instance, InstanceBackend
from moto.ec2.models.security_groups import SecurityGroup, SecurityGroupBackend, SecurityGroupRule
from moto.ec2.responses.security_groups import SecurityGroups

ALL_PORTS = (0, 65535)


def install() -> None:
    """Replaces deletion, authorisation and the change of an instance's groups."""
    delete = SecurityGroupBackend.delete_security_group

    def delete_security_group(self: Any, name: str | None = None, group_id: str | None = None) -> None:
        group = self.get_security_group_by_name_or_id(group_id or name)
        if group is not None and group.is_default:
            message = f'the specified group: "{group.id}" name: "default" cannot be deleted by a user'
            raise EC2ClientError("CannotDelete", message)
        if group is not None and in_use(self, group):
            raise EC2ClientError("DependencyViolation", f"resource {group.id} has a dependent object")
        delete(self, name=name, group_id=group_id)

    def modify_instance_security_groups(self: Any, instance_id: str, new_group_id_list: list[str]) -> Instance:
        instance = self.get_instance(instance_id)
        groups = [self.get_security_group_from_id(group_id) for group_id in new_group_id_list]
        for group, group_id in zip(groups, new_group_id_list, strict=True):
            if group is None:
                raise EC2ClientError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
        instance.security_groups = groups
        instance.nics[0]._group_set = list(groups)
        return instance

    def authorize_security_group_ingress(self: SecurityGroups) -> ActionResult:
        self.error_on_dryrun()
        return authorize(self, self.ec2_backend.authorize_security_group_ingress, "ingress_rules")

    def authorize_security_group_egress(self: SecurityGroups) -> ActionResult:
        self.error_on_dryrun()
        return authorize(self, self.ec2_backend.authorize_security_group_egress, "egress_rules")

    SecurityGroupBackend.delete_security_group = delete_security_group
    InstanceBackend.modify_instance_security_groups = modify_instance_security_groups
    SecurityGroups.authorize_security_group_ingress = authorize_security_group_ingress
    SecurityGroups.authorize_security_group_egress = authorize_security_group_egress
    SecurityGroupRule.description = property(
        lambda rule: rule.ip_range.get("Description") or rule.source_group.get("Description")
    )


def in_use(backend: Any, group: SecurityGroup) -> bool:
    """Returns whether an interface or a rule of another group names the group."""
    if any(group in interface.group_set for interface in backend.enis.values()):
        return True
    others = [other for groups in backend.groups.values() for other in groups.values() if other is not group]
    return any(
        rule.source_group.get("GroupId") == group.id
        for other in others
        for rule in other.ingress_rules + other.egress_rules
    )


def authorize(self: SecurityGroups, add: Any, kept_in: str) -> ActionResult:
    """Adds the rules of all permissions; when one is refused, none of them stays."""
    calls = list(self._process_rules_from_querystring())
    named = calls[0]["group_name_or_id"] if calls else None
    group = self.ec2_backend.get_security_group_by_name_or_id(named) if named else None
    before = list(getattr(group, kept_in)) if group else []
    added: list[SecurityGroupRule] = []
    try:
        for call in calls:
            rules, _ = add(**call)
            added += rules
    except Exception:
        if group is not None:
            setattr(group, kept_in, before)
        raise
    return ActionResult({"Return": True, "SecurityGroupRules": added})


def ingress_of(instance: Instance) -> list[dict[str, Any]]:
    """Returns what may come in to an instance, with references to groups resolved to their members' private addresses.

    Ports are 0 to 65535 if the protocol is `-1`; for icmp they are type and code, -1 for all. IPv6 is left out.
    """
    backend = instance.ec2_backend
    permissions = []
    for group in sorted(set(instance.nics[0].group_set), key=lambda group: group.id) if 0 in instance.nics else []:
        for rule in group.ingress_rules:
            sources = [rule.cidr_ipv4] if rule.cidr_ipv4 else []
            if rule.source_group:
                sources += members(backend, rule.source_group.get("GroupId"))
            if not sources:
                continue
            first, last = ALL_PORTS if rule.from_port is None else (rule.from_port, rule.to_port)
            permissions.append({"protocol": rule.ip_protocol, "from": first, "to": last, "sources": sources})
    return permissions


def members(backend: Any, group_id: str | None) -> list[str]:
    """The private addresses of the group's instances that are not terminated."""
    return sorted(
        f"{instance.private_ip}/32"
        for instance in backend.all_instances()
        if instance.state != "terminated" and any(group.id == group_id for group in instance.nics[0].group_set)
    )
