"""Network ACLs as AWS keeps them: a new one denies all, and its entries are those of a whole subnet."""

from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import Instance
from moto.ec2.models.network_acls import NetworkAcl, NetworkAclBackend

# The number of the entry that stands at the end of every ACL and cannot be removed.
LAST = 32767


def install() -> None:
    """Replaces the making of an ACL, and refuses an association that is not there."""
    create, replace = NetworkAclBackend.create_network_acl, NetworkAclBackend.replace_network_acl_association

    def create_network_acl(self: Any, vpc_id: str, tags: Any = None, default: bool = False) -> NetworkAcl:
        acl = create(self, vpc_id, tags, default)
        if not default:
            for egress in (True, False):
                self.create_network_acl_entry(
                    acl.id, LAST, "-1", "deny", egress, "0.0.0.0/0", None, None, None, None, None
                )
        return acl

    def replace_network_acl_association(self: Any, association_id: str, network_acl_id: str) -> Any:
        if subnet_of(self, association_id) is None:
            message = f"The association ID '{association_id}' does not exist"
            raise EC2ClientError("InvalidAssociationID.NotFound", message)
        self.get_network_acl(network_acl_id)
        return replace(self, association_id, network_acl_id)

    NetworkAclBackend.create_network_acl = create_network_acl
    NetworkAclBackend.replace_network_acl_association = replace_network_acl_association


def subnet_of(backend: Any, association_id: str) -> str | None:
    """Returns the subnet of an association; None if there is no such association."""
    for acl in backend.network_acls.values():
        if association_id in acl._associations:
            return acl._associations[association_id].subnet_id
    return None


def acl_of(instance: Instance) -> dict[str, Any] | None:
    """Returns the subnet's block with the entries of its ACL in their order. IPv6 is left out."""
    subnet = instance.nics[0].subnet if 0 in instance.nics else None
    acls = instance.ec2_backend.network_acls.values()
    owned = (acl for acl in acls if subnet and any(held.subnet_id == subnet.id for held in acl.associations))
    acl = next(owned, None)
    if acl is None:
        return None
    entries = [entry for entry in acl.network_acl_entries if entry.cidr_block]
    return {
        "subnet": subnet.cidr_block,
        "entries": [
            {
                "egress": str(entry.egress).lower() == "true",
                "allow": entry.rule_action == "allow",
                "protocol": str(entry.protocol),
                "from": entry.port_range_from,
                "to": entry.port_range_to,
                "network": entry.cidr_block,
            }
            for entry in sorted(entries, key=lambda entry: int(entry.rule_number))
        ],
    }
