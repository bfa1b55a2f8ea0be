"""Network ACLs: what a new one does, whose subnet it is of, and what the supervisor hears."""

from harness import CloudTest


class NetworkAcls(CloudTest):
    def association(self, subnet: str) -> dict[str, str]:
        filters = [{"Name": "association.subnet-id", "Values": [subnet]}]
        (acl,) = self.ec2.describe_network_acls(Filters=filters)["NetworkAcls"]
        return next(held for held in acl["Associations"] if held["SubnetId"] == subnet)

    def test_an_acl_of_ones_own_denies_all_to_one_subnet_until_it_is_taken_back(self) -> None:
        subnets = self.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
        here, there = subnets[0], subnets[1]
        cut, other = (self.launched(SubnetId=subnet["SubnetId"]) for subnet in (here, there))
        before = self.association(here["SubnetId"])
        open_to_all = self.seen(cut)["acl"]
        self.assertEqual(open_to_all["subnet"], here["CidrBlock"])
        self.assertEqual([entry["allow"] for entry in open_to_all["entries"]], [True, True, False, False])
        acl = self.ec2.create_network_acl(VpcId=here["VpcId"])["NetworkAcl"]
        self.assertEqual([entry["RuleAction"] for entry in acl["Entries"]], ["deny", "deny"])
        replace = self.ec2.replace_network_acl_association
        now = replace(AssociationId=before["NetworkAclAssociationId"], NetworkAclId=acl["NetworkAclId"])
        self.assertEqual([entry["allow"] for entry in self.seen(cut)["acl"]["entries"]], [False, False])
        self.assertEqual(self.seen(other)["acl"]["entries"][0]["allow"], True)
        self.refused("DependencyViolation", self.ec2.delete_network_acl, NetworkAclId=acl["NetworkAclId"])
        self.refused(
            "InvalidAssociationID.NotFound",
            replace,
            AssociationId=before["NetworkAclAssociationId"],
            NetworkAclId=acl["NetworkAclId"],
        )
        replace(AssociationId=now["NewAssociationId"], NetworkAclId=before["NetworkAclId"])
        self.assertEqual(self.seen(cut)["acl"], open_to_all)
        self.ec2.delete_network_acl(NetworkAclId=acl["NetworkAclId"])

    def test_the_interfaces_of_a_subnet_are_listed(self) -> None:
        subnet = self.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        instance = self.launched(SubnetId=subnet)
        filters = [{"Name": "subnet-id", "Values": [subnet]}]
        found = self.ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
        self.assertIn(instance, [interface["Attachment"]["InstanceId"] for interface in found])
