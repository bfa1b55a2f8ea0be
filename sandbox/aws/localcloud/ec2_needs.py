"""Which resources an EC2 call touches, and what conditions may ask of each: its tags, and the tags that it gets.

Calls that only look are asked about `*`: EC2 knows no resources there. RunInstances needs permission for everything
that it makes and uses; tags that a call brings need `ec2:CreateTags` on what it makes, distinguished from
tagging later by `ec2:CreateAction`; an instance profile needs `iam:PassRole` on its role.
"""

from collections.abc import Callable, Iterator

from moto.ec2.models import ec2_backends

from .network_acls import subnet_of
from .principals import ACCOUNT, iam
from .request import Request

Facts = tuple[tuple[str, str], ...]
Asked = tuple[str, str, Facts]


def of(request: Request) -> list[Asked]:
    """Action, resource and facts of everything that this call needs."""
    name = f"ec2:{request.operation}"
    call = Call(request)
    if request.operation.startswith("Describe"):
        return [(name, "*", call.always())]
    resources = RESOURCES.get(request.operation, named_instances)(call)
    needs = [(name, resource, facts) for resource, facts in resources] or [(name, "*", call.always())]
    needs += [
        ("ec2:CreateTags", call.arn(kind, "*"), (*call.made(kind), ("ec2:CreateAction", request.operation)))
        for kind in call.tags
        if request.operation != "CreateTags"
    ]
    return needs + passed_role(call)


class Call:
    """The parts of a call that permissions are about."""

    def __init__(self, request: Request):
        self.form = request.form
        self.region = request.region
        self.tags = tags_by_kind(request.form)

    def always(self) -> Facts:
        return (("ec2:Region", self.region),)

    def arn(self, kind: str, name: str) -> str:
        account = "" if kind == "image" else ACCOUNT
        return f"arn:aws:ec2:{self.region}:{account}:{kind}/{name}"

    def there(self, kind: str, name: str, *facts: tuple[str, str]) -> tuple[str, Facts]:
        """A resource that stands, with its tags."""
        held = ec2_backends[ACCOUNT][self.region].tags.get(name) or {}
        own = [(f"{prefix}:ResourceTag/{key}", value) for key, value in held.items() for prefix in ("aws", "ec2")]
        return self.arn(kind, name), (*self.always(), *own, *facts)

    def made(self, kind: str) -> Facts:
        """What is known of a resource that the call makes: the tags that it is to get."""
        tags = self.tags.get(kind, {})
        return (*self.always(), *((f"aws:RequestTag/{key}", value) for key, value in tags.items()))

    def new(self, kind: str, *facts: tuple[str, str]) -> tuple[str, Facts]:
        return self.arn(kind, "*"), (*self.made(kind), *facts)

    def known(self, key: str, parameter: str) -> list[tuple[str, str]]:
        """The condition key, where the call names the parameter."""
        return [(key, self.form[parameter])] if parameter in self.form else []

    def values(self, *prefixes: str) -> list[str]:
        """Values of numbered parameters such as `InstanceId.1`."""
        return [value for key, value in self.form.items() if key.rpartition(".")[0] in prefixes]


def tags_by_kind(form: dict[str, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for parameter, kind in form.items():
        if parameter.startswith("TagSpecification.") and parameter.endswith(".ResourceType"):
            prefix = parameter.removesuffix("ResourceType") + "Tag."
            keys = [key for key in form if key.startswith(prefix) and key.endswith(".Key")]
            found[kind] = {form[key]: form.get(key.removesuffix("Key") + "Value", "") for key in keys}
    return found


def run_instances(call: Call) -> Iterator[tuple[str, Facts]]:
    interfaces = sorted({key.split(".")[1] for key in call.form if key.startswith("NetworkInterface.")})
    groups = call.values("SecurityGroupId", *(f"NetworkInterface.{n}.SecurityGroupId" for n in interfaces))
    subnets = [call.form.get("SubnetId"), *(call.form.get(f"NetworkInterface.{n}.SubnetId") for n in interfaces)]
    instance = [
        *call.known("ec2:InstanceType", "InstanceType"),
        *call.known("ec2:MetadataHttpTokens", "MetadataOptions.HttpTokens"),
        *call.known("ec2:MetadataHttpPutResponseHopLimit", "MetadataOptions.HttpPutResponseHopLimit"),
        *call.known("ec2:MetadataHttpEndpoint", "MetadataOptions.HttpEndpoint"),
    ]
    disk = "BlockDeviceMapping.1.Ebs"
    volume = [
        *call.known("ec2:Encrypted", f"{disk}.Encrypted"),
        *call.known("ec2:VolumeSize", f"{disk}.VolumeSize"),
        *call.known("ec2:VolumeType", f"{disk}.VolumeType"),
    ]
    yield call.new("instance", *instance)
    yield call.new("volume", *volume)
    yield call.new("network-interface")
    yield call.there("image", call.form.get("ImageId", "*"))
    for subnet in [name for name in subnets if name] or ["*"]:
        yield call.there("subnet", subnet)
    for group in groups or ["*"]:
        yield call.there("security-group", group)
    if "KeyName" in call.form:
        yield call.there("key-pair", call.form["KeyName"], ("ec2:KeyPairName", call.form["KeyName"]))


def passed_role(call: Call) -> list[Asked]:
    name, arn = call.form.get("IamInstanceProfile.Name"), call.form.get("IamInstanceProfile.Arn")
    if not name and not arn:
        return []
    profiles = [each for each in iam().instance_profiles.values() if each.name == name or each.arn == arn]
    roles = [role.arn for each in profiles for role in each.roles]
    return [("iam:PassRole", role, (("iam:PassedToService", "ec2.amazonaws.com"),)) for role in roles or ["*"]]


def named_instances(call: Call) -> Iterator[tuple[str, Facts]]:
    for instance in call.values("InstanceId") + [call.form[key] for key in ("InstanceId",) if key in call.form]:
        yield call.there("instance", instance)


def associate_address(call: Call) -> Iterator[tuple[str, Facts]]:
    yield call.there("elastic-ip", call.form.get("AllocationId", "*"))
    yield from named_instances(call)
    if "NetworkInterfaceId" in call.form:
        yield call.there("network-interface", call.form["NetworkInterfaceId"])


def create_tags(call: Call) -> Iterator[tuple[str, Facts]]:
    kinds = {"i": "instance", "vol": "volume", "sg": "security-group", "eipalloc": "elastic-ip", "subnet": "subnet"}
    pairs = [(key.rpartition(".")[0], value) for key, value in call.form.items() if key.endswith(".Key")]
    asked = [(f"aws:RequestTag/{value}", call.form.get(f"{prefix}.Value", "")) for prefix, value in pairs]
    for name in call.values("ResourceId"):
        yield call.there(kinds.get(name.partition("-")[0], "*"), name, *asked)


def one(kind: str, parameter: str) -> Callable[[Call], Iterator[tuple[str, Facts]]]:
    """A call about one standing resource that a parameter names."""

    def resources(call: Call) -> Iterator[tuple[str, Facts]]:
        yield call.there(kind, call.form.get(parameter, "*"))

    return resources


def create_security_group(call: Call) -> Iterator[tuple[str, Facts]]:
    yield call.new("security-group")
    yield call.there("vpc", call.form.get("VpcId", "*"))


def create_network_acl(call: Call) -> Iterator[tuple[str, Facts]]:
    yield call.new("network-acl")
    yield call.there("vpc", call.form.get("VpcId", "*"))


def replace_network_acl_association(call: Call) -> Iterator[tuple[str, Facts]]:
    backend = ec2_backends[ACCOUNT][call.region]
    yield call.there("network-acl", call.form.get("NetworkAclId", "*"))
    yield call.there("subnet", subnet_of(backend, call.form.get("AssociationId", "")) or "*")


def import_key_pair(call: Call) -> Iterator[tuple[str, Facts]]:
    name = call.form.get("KeyName", "*")
    yield call.arn("key-pair", name), (*call.made("key-pair"), ("ec2:KeyPairName", name))


RESOURCES: dict[str, Callable[[Call], Iterator[tuple[str, Facts]]]] = {
    "RunInstances": run_instances,
    "AllocateAddress": lambda call: iter([call.new("elastic-ip")]),
    "AssociateAddress": associate_address,
    "ReleaseAddress": one("elastic-ip", "AllocationId"),
    "CreateSecurityGroup": create_security_group,
    "AuthorizeSecurityGroupIngress": one("security-group", "GroupId"),
    "RevokeSecurityGroupIngress": one("security-group", "GroupId"),
    "DeleteSecurityGroup": one("security-group", "GroupId"),
    "CreateNetworkAcl": create_network_acl,
    "ReplaceNetworkAclAssociation": replace_network_acl_association,
    "DeleteNetworkAcl": one("network-acl", "NetworkAclId"),
    "ImportKeyPair": import_key_pair,
    "DeleteKeyPair": one("key-pair", "KeyName"),
    "ModifyVolume": one("volume", "VolumeId"),
    "CreateTags": create_tags,
    "DeleteTags": create_tags,
}
