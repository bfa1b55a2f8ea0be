"""moto's networks, held to the sandbox's addresses: the default VPC and its subnets, interfaces, Elastic IPs.

Mended besides the ranges: an Elastic IP stays with an instance over stop and start, moves without leaving a copy
behind, and cannot be released while in use.
"""

import ipaddress
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import elastic_ip_addresses, elastic_network_interfaces, instances, nat_gateways, vpcs
from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend
from moto.ec2.models.elastic_ip_addresses import ElasticAddress, ElasticAddressBackend
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.subnets import Subnet, SubnetBackend
from moto.ec2.models.vpcs import VPCBackend
from moto.ec2.responses.elastic_ip_addresses import ElasticIPAddresses

from .pools import ADDRESSES, RESERVED, SUBNETS, VPC

NOT_ASSOCIABLE = ("pending", "shutting-down", "terminated")


def install() -> None:
    """Replaces moto's random addresses and the behaviour described above."""
    for module in (elastic_network_interfaces, instances, nat_gateways, vpcs):
        module.random_private_ip = private_address
    elastic_network_interfaces.random_public_ip = ADDRESSES.public.take
    elastic_network_interfaces.random_mac_address = ADDRESSES.hardware_address
    elastic_ip_addresses.random_ip = ADDRESSES.elastic.take
    RegionsAndZonesBackend.zones = {
        region: zones[: len(SUBNETS)] for region, zones in RegionsAndZonesBackend.zones.items()
    }
    install_vpc()
    install_subnets()
    install_interfaces()
    install_elastic_addresses()


def private_address(cidr: str | None = None, ipv6: bool = False) -> str:
    if ipv6:
        raise EC2ClientError("InvalidParameterCombination", "The sandbox hands out no IPv6 addresses.")
    return ADDRESSES.private(cidr or str(SUBNETS[0])).take()


def install_vpc() -> None:
    create_vpc = VPCBackend.create_vpc

    def create_default_vpc(self: Any) -> Any:
        vpc = self.create_vpc(cidr_block=str(VPC), is_default=True)
        for zone, block in zip(self.describe_availability_zones(), SUBNETS, strict=False):
            self.create_subnet(vpc_id=vpc.id, cidr_block=str(block), availability_zone=zone.name)
        return vpc

    def create_vpc_within_the_sandbox(self: Any, cidr_block: str, *args: Any, **kwargs: Any) -> Any:
        if not within(cidr_block, VPC):
            raise EC2ClientError("InvalidVpc.Range", f"The CIDR '{cidr_block}' is invalid: the sandbox has only {VPC}.")
        return create_vpc(self, cidr_block, *args, **kwargs)

    VPCBackend.create_default_vpc = create_default_vpc
    VPCBackend.create_vpc = create_vpc_within_the_sandbox


def within(cidr: str, network: ipaddress.IPv4Network) -> bool:
    try:
        return ipaddress.ip_network(cidr, strict=False).subnet_of(network)
    except (ValueError, TypeError):
        return False


def install_subnets() -> None:
    create_subnet = SubnetBackend.create_subnet

    def create_subnet_beside_the_pools(self: Any, vpc_id: str, cidr_block: str, *args: Any, **kwargs: Any) -> Any:
        if any(ipaddress.ip_network(cidr_block, strict=False).overlaps(reserved) for reserved in RESERVED):
            message = f"The CIDR '{cidr_block}' conflicts with addresses that the sandbox keeps for itself."
            raise EC2ClientError("InvalidSubnet.Conflict", message)
        return create_subnet(self, vpc_id, cidr_block, *args, **kwargs)

    def get_available_subnet_ip(self: Subnet, instance: Any) -> str:
        address = ADDRESSES.private(self.cidr_block).take()
        self._subnet_ips[address] = instance
        return address

    def request_ip(self: Subnet, ip: str, instance: Any) -> None:
        if not ADDRESSES.private(self.cidr_block).take_exactly(ip):
            raise EC2ClientError("InvalidIPAddress.InUse", f"Address {ip} is in use or outside subnet {self.id}.")
        self._subnet_ips[ip] = instance

    def del_subnet_ip(self: Subnet, ip: str) -> None:
        self._subnet_ips.pop(ip, None)
        ADDRESSES.private(self.cidr_block).give_back(ip)

    SubnetBackend.create_subnet = create_subnet_beside_the_pools
    Subnet.get_available_subnet_ip = get_available_subnet_ip
    Subnet.request_ip = request_ip
    Subnet.del_subnet_ip = del_subnet_ip
    # moto gives addresses back when Python forgets an instance; here that happens when it is terminated.
    instances.Instance.__del__ = lambda self: None


def elastic_address_of(interface: NetworkInterface) -> ElasticAddress | None:
    return next((address for address in interface.ec2_backend.addresses if address.eni is interface), None)


def drop_public_address(interface: NetworkInterface) -> None:
    """Takes the automatic public address away; an Elastic IP stays."""
    if interface.public_ip and elastic_address_of(interface) is None:
        ADDRESSES.public.give_back(interface.public_ip)
        interface.public_ip = None


def take_public_address(interface: NetworkInterface) -> None:
    """Gives the interface an automatic public address if it is to have one and no Elastic IP stands in its place."""
    wanted = str(interface.public_ip_auto_assign).lower() == "true"
    if wanted and not interface.public_ip:
        interface.public_ip = ADDRESSES.public.take()


def install_interfaces() -> None:
    modify = elastic_network_interfaces.NetworkInterfaceBackend.modify_network_interface_attribute

    def modify_attribute(self: Any, eni_id: str, group_ids: list[str], *args: Any, **kwargs: Any) -> None:
        modify(self, eni_id, group_ids, *args, **kwargs)
        interface = self.get_network_interface(eni_id)
        if group_ids and interface.instance and interface.device_index == 0:
            interface.instance.security_groups = list(interface._group_set)

    NetworkInterface.stop = drop_public_address
    NetworkInterface.check_auto_public_ip = take_public_address
    elastic_network_interfaces.NetworkInterfaceBackend.modify_network_interface_attribute = modify_attribute


def disassociate(address: ElasticAddress) -> None:
    """Takes an Elastic IP off its interface, which gets an automatic address back if its instance is up."""
    interface, instance = address.eni, address.instance or (address.eni and address.eni.instance)
    address.eni = address.instance = address.association_id = None
    if interface is not None:
        interface.public_ip = None
        if instance is not None and instance.state in ("pending", "running"):
            take_public_address(interface)


def install_elastic_addresses() -> None:
    associate_by_request = ElasticIPAddresses.associate_address
    allocate = ElasticAddressBackend.allocate_address
    release = ElasticAddressBackend.release_address

    def allocate_address(self: Any, domain: str, address: str | None = None, tags: Any = None) -> ElasticAddress:
        if address and not ADDRESSES.elastic.take_exactly(address):
            raise EC2ClientError("InvalidAddress.NotFound", f"The address '{address}' is not available.")
        return allocate(self, domain or "vpc", address=address, tags=tags)

    def associate_response(self: ElasticIPAddresses) -> Any:
        # AWS moves an address unless it is asked not to; moto must be asked to.
        self.params.setdefault("AllowReassociation", True)
        return associate_by_request(self)

    def associate_address(
        self: Any,
        instance: Any = None,
        eni: Any = None,
        address: str | None = None,
        allocation_id: str | None = None,
        reassociate: bool = False,
    ) -> ElasticAddress:
        found = self.address_by_ip([address]) if address else self.address_by_allocation([allocation_id])
        elastic = found[0]
        if instance is not None and instance.state in NOT_ASSOCIABLE:
            message = f"The {instance.state} instance '{instance.id}' is not in a valid state for this operation."
            raise EC2ClientError("InvalidInstanceID", message)
        interface = eni or instance.nics[0]
        if elastic.eni is interface:
            return elastic
        replaced = elastic_address_of(interface)
        if (elastic.eni is not None or replaced is not None) and not reassociate:
            message = (
                f"resource {elastic.allocation_id} is already associated with associate-id {elastic.association_id}"
            )
            raise EC2ClientError("Resource.AlreadyAssociated", message)
        disassociate(elastic)
        if replaced is not None:
            replaced.eni = replaced.instance = replaced.association_id = None
            interface.public_ip = None
        drop_public_address(interface)
        elastic.eni, elastic.instance = interface, instance or interface.instance
        elastic.association_id = elastic_ip_addresses.random_eip_association_id()
        interface.public_ip = elastic.public_ip
        return elastic

    def disassociate_address(self: Any, address: str | None = None, association_id: str | None = None) -> None:
        found = self.address_by_ip([address]) if address else self.address_by_association([association_id])
        disassociate(found[0])

    def release_address(self: Any, address: str | None = None, allocation_id: str | None = None) -> None:
        found = self.address_by_ip([address]) if address else self.address_by_allocation([allocation_id])
        elastic = found[0]
        if elastic.eni is not None:
            raise EC2ClientError("InvalidIPAddress.InUse", f"Address {elastic.public_ip} is in use.")
        release(self, address=elastic.public_ip)
        self.tags.pop(elastic.id, None)
        ADDRESSES.elastic.give_back(elastic.public_ip)

    # moto answers empty strings where AWS leaves the field out.
    ElasticAddress.instance_id = property(lambda self: self.instance.id if self.instance else None)
    ElasticAddress.network_interface_id = property(lambda self: self.eni.id if self.eni else None)
    ElasticIPAddresses.associate_address = associate_response
    ElasticAddressBackend.allocate_address = allocate_address
    ElasticAddressBackend.associate_address = associate_address
    ElasticAddressBackend.disassociate_address = disassociate_address
    ElasticAddressBackend.release_address = release_address
