"""Rules, membership and deletion of security groups."""

from harness import CloudTest


class SecurityGroups(CloudTest):
    def setUp(self) -> None:
        super().setUp()
        tags = [{"ResourceType": "security-group", "Tags": [{"Key": "infra:name", "Value": self.name}]}]
        wanted = {"GroupName": self.name, "Description": "x", "TagSpecifications": tags}
        self.group = self.ec2.create_security_group(**wanted)["GroupId"]

    def tcp(self, port: int, **sources: object) -> dict[str, object]:
        return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port} | sources

    def test_rules_reach_the_supervisor_with_groups_resolved_to_members(self) -> None:
        pair = {"UserIdGroupPairs": [{"GroupId": self.group, "Description": "replication"}]}
        ssh = {"IpRanges": [{"CidrIp": "10.77.0.1/32", "Description": "ssh"}]}
        permissions = [self.tcp(22, **ssh), self.tcp(6379, **pair)]
        answer = self.ec2.authorize_security_group_ingress(GroupId=self.group, IpPermissions=permissions)
        self.assertEqual(len(answer["SecurityGroupRules"]), 2)
        instances = [self.launched(SecurityGroupIds=[self.group]) for _ in range(2)]
        members = sorted(f"{self.described(instance)['PrivateIpAddress']}/32" for instance in instances)
        for instance in instances:
            self.assertEqual(
                self.seen(instance)["ingress"],
                [
                    {"protocol": "tcp", "from": 22, "to": 22, "sources": ["10.77.0.1/32"]},
                    {"protocol": "tcp", "from": 6379, "to": 6379, "sources": members},
                ],
            )
        rules = self.ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [self.group]}])
        ingress = [rule for rule in rules["SecurityGroupRules"] if not rule["IsEgress"]]
        self.assertEqual({rule["Description"] for rule in ingress}, {"ssh", "replication"})
        self.assertIn(self.group, [rule.get("ReferencedGroupInfo", {}).get("GroupId") for rule in ingress])
        self.ec2.revoke_security_group_ingress(GroupId=self.group, IpPermissions=permissions[:1])
        self.assertEqual([rule["from"] for rule in self.seen(instances[0])["ingress"]], [6379])
        self.refused(
            "InvalidPermission.NotFound",
            self.ec2.revoke_security_group_ingress,
            GroupId=self.group,
            IpPermissions=permissions[:1],
        )

    def test_a_duplicate_rule_is_refused_and_nothing_of_its_call_stays(self) -> None:
        one, other = (self.tcp(port, IpRanges=[{"CidrIp": "10.77.0.1/32"}]) for port in (22, 23))
        self.ec2.authorize_security_group_ingress(GroupId=self.group, IpPermissions=[one])
        authorize = self.ec2.authorize_security_group_ingress
        self.refused("InvalidPermission.Duplicate", authorize, GroupId=self.group, IpPermissions=[other, one])
        found = self.ec2.describe_security_groups(GroupIds=[self.group])["SecurityGroups"][0]
        self.assertEqual([rule["FromPort"] for rule in found["IpPermissions"]], [22])

    def test_a_group_in_use_is_not_deleted(self) -> None:
        instance = self.launched(SecurityGroupIds=[self.group])
        self.refused("DependencyViolation", self.ec2.delete_security_group, GroupId=self.group)
        self.ec2.terminate_instances(InstanceIds=[instance])
        self.refused("DependencyViolation", self.ec2.delete_security_group, GroupId=self.group)
        self.acknowledge(instance, "terminated")
        self.ec2.delete_security_group(GroupId=self.group)
        self.refused("InvalidGroup.NotFound", self.ec2.delete_security_group, GroupId=self.group)

    def test_a_group_named_in_another_groups_rules_is_not_deleted(self) -> None:
        other = self.ec2.create_security_group(GroupName=self.name + "-2", Description="x")["GroupId"]
        rule = self.tcp(1, UserIdGroupPairs=[{"GroupId": self.group}])
        self.ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=[rule])
        self.refused("DependencyViolation", self.ec2.delete_security_group, GroupId=self.group)
        self.ec2.delete_security_group(GroupId=other)
        self.ec2.delete_security_group(GroupId=self.group)

    def test_an_instance_changes_its_groups(self) -> None:
        instance = self.launched()
        self.ec2.modify_instance_attribute(InstanceId=instance, Groups=[self.group])
        self.assertEqual([each["GroupId"] for each in self.described(instance)["SecurityGroups"]], [self.group])
        self.refused("DependencyViolation", self.ec2.delete_security_group, GroupId=self.group)

    def test_a_name_is_used_once_and_a_group_is_found_by_tag(self) -> None:
        again = {"GroupName": self.name, "Description": "x"}
        self.refused("InvalidGroup.Duplicate", self.ec2.create_security_group, **again)
        found = self.ec2.describe_security_groups(Filters=[{"Name": "tag:infra:name", "Values": [self.name]}])
        self.assertEqual([each["GroupId"] for each in found["SecurityGroups"]], [self.group])
