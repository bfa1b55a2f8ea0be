"""Every address that the cloud hands out. All lie in 10.77.0.0/16, so that no packet ever leaves the computer."""

import ipaddress
from collections import deque

VPC = ipaddress.ip_network("10.77.0.0/16")
SUBNETS = tuple(ipaddress.ip_network(cidr) for cidr in ("10.77.16.0/20", "10.77.32.0/20", "10.77.48.0/20"))
PUBLIC = ipaddress.ip_network("10.77.128.0/20")
ELASTIC = ipaddress.ip_network("10.77.144.0/20")
BRIDGE = ipaddress.ip_network("10.77.0.0/20")
RESERVED = (BRIDGE, PUBLIC, ELASTIC)
FIRST_HOSTS_RESERVED = 3  # AWS keeps the first three host addresses of a subnet for itself


class Exhausted(Exception):
    """A pool has no free address left."""


class Pool:
    """Addresses of one network, each handed out to one holder at a time; one given back is used again last."""

    def __init__(self, network: ipaddress.IPv4Network, skip: int = 0):
        self.network = network
        self._free = deque(str(address) for address in list(network.hosts())[skip:])
        self._taken: set[str] = set()

    def take(self) -> str:
        if not self._free:
            raise Exhausted(f"no free address is left in {self.network}")
        address = self._free.popleft()
        self._taken.add(address)
        return address

    def take_exactly(self, address: str) -> bool:
        """Takes this address; False when it is in use or not of this pool."""
        try:
            self._free.remove(address)
        except ValueError:
            return False
        self._taken.add(address)
        return True

    def give_back(self, address: str) -> None:
        if address in self._taken:
            self._taken.remove(address)
            self._free.append(address)


class Addresses:
    """All pools. Private ones are shared by all regions, because the computer has one bridge."""

    def __init__(self) -> None:
        self.public = Pool(PUBLIC)
        self.elastic = Pool(ELASTIC)
        self._private: dict[str, Pool] = {}
        self._interfaces_made = 0

    def private(self, cidr: str) -> Pool:
        if cidr not in self._private:
            self._private[cidr] = Pool(ipaddress.ip_network(cidr), skip=FIRST_HOSTS_RESERVED)
        return self._private[cidr]

    def give_back(self, address: str) -> None:
        for pool in (self.public, self.elastic, *self._private.values()):
            pool.give_back(address)

    def hardware_address(self) -> str:
        """A locally administered MAC address that no other interface of this cloud has."""
        self._interfaces_made += 1
        return "0a:77:" + ":".join(f"{byte:02x}" for byte in self._interfaces_made.to_bytes(4, "big"))


ADDRESSES = Addresses()
