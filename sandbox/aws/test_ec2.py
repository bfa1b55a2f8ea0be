"""Instances from launch to termination, and their addresses."""

import ipaddress
from base64 import b64encode

from harness import PUBLIC_KEY, CloudTest

VPC = ipaddress.ip_network("10.77.0.0/16")
PUBLIC = ipaddress.ip_network("10.77.128.0/20")
ELASTIC = ipaddress.ip_network("10.77.144.0/20")


def within(address: str, network: ipaddress.IPv4Network) -> bool:
    return ipaddress.ip_address(address) in network


class Network(CloudTest):
    def test_the_default_vpc_has_the_sandboxes_ranges(self) -> None:
        vpcs = self.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        self.assertEqual([vpc["CidrBlock"] for vpc in vpcs], ["10.77.0.0/16"])
        subnets = self.ec2.describe_subnets(
            Filters=[
                {"Name": "vpc-id", "Values": [vpcs[0]["VpcId"]]},
                {"Name": "default-for-az", "Values": ["true"]},
            ]
        )["Subnets"]
        self.assertEqual(
            {subnet["AvailabilityZone"]: subnet["CidrBlock"] for subnet in subnets},
            {"us-east-1a": "10.77.16.0/20", "us-east-1b": "10.77.32.0/20", "us-east-1c": "10.77.48.0/20"},
        )
        self.assertTrue(all(subnet["MapPublicIpOnLaunch"] for subnet in subnets))
        zones = self.ec2.describe_availability_zones()["AvailabilityZones"]
        self.assertEqual([zone["ZoneName"] for zone in zones], ["us-east-1a", "us-east-1b", "us-east-1c"])

    def test_nothing_outside_the_sandbox_can_be_made(self) -> None:
        vpc = self.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        self.refused("InvalidVpc.Range", self.ec2.create_vpc, CidrBlock="10.0.0.0/16")
        self.refused("InvalidSubnet.Conflict", self.ec2.create_subnet, VpcId=vpc, CidrBlock="10.77.128.0/24")
        self.refused("InvalidAddress.NotFound", self.ec2.allocate_address, Domain="vpc", Address="54.1.2.3")


class Launch(CloudTest):
    def test_an_instance_is_what_was_asked_for(self) -> None:
        group = self.ec2.create_security_group(GroupName=self.name, Description="x")["GroupId"]
        key = self.ec2.import_key_pair(KeyName=self.name, PublicKeyMaterial=PUBLIC_KEY.encode())
        role, profile = self.role_with({"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"})
        tags = [{"Key": "infra:name", "Value": self.name}]
        volume = {"Encrypted": True, "VolumeType": "gp3", "VolumeSize": 16, "DeleteOnTermination": True}
        subnet = self.ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1b"]}])
        instance = self.launched(
            KeyName=self.name,
            SecurityGroupIds=[group],
            SubnetId=subnet["Subnets"][0]["SubnetId"],
            IamInstanceProfile={"Name": role},
            UserData="#cloud-config\n",
            MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": volume}],
            TagSpecifications=[
                {"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume", "network-interface")
            ],
        )
        found = self.described(instance)
        self.assertEqual(found["Placement"]["AvailabilityZone"], "us-east-1b")
        self.assertTrue(within(found["PrivateIpAddress"], ipaddress.ip_network("10.77.32.0/20")))
        self.assertTrue(within(found["PublicIpAddress"], PUBLIC))
        self.assertEqual([each["GroupId"] for each in found["SecurityGroups"]], [group])
        self.assertEqual(found["IamInstanceProfile"]["Arn"], profile)
        self.assertEqual(found["MetadataOptions"]["HttpTokens"], "required")
        self.assertEqual(found["MetadataOptions"]["HttpPutResponseHopLimit"], 1)
        self.assertEqual((found["Architecture"], found["RootDeviceName"]), ("x86_64", "/dev/xvda"))
        self.assertEqual(found["Tags"], tags)
        self.assertEqual(found["NetworkInterfaces"][0]["Groups"][0]["GroupId"], group)
        mappings = found["BlockDeviceMappings"]
        self.assertEqual([mapping["DeviceName"] for mapping in mappings], ["/dev/xvda"])
        disk = self.ec2.describe_volumes(VolumeIds=[mappings[0]["Ebs"]["VolumeId"]])["Volumes"][0]
        self.assertEqual((disk["Encrypted"], disk["VolumeType"], disk["Size"]), (True, "gp3", 16))
        self.assertEqual(disk["Tags"], tags)
        seen = self.seen(instance)
        self.assertEqual(seen["addresses"], [found["PublicIpAddress"]])
        self.assertEqual(seen["public_ip"], found["PublicIpAddress"])
        self.assertEqual(seen["user_data"], b64encode(b"#cloud-config\n").decode())
        self.assertEqual((seen["key_name"], seen["public_key"]), (self.name, PUBLIC_KEY))
        self.assertEqual((seen["role"], seen["profile_arn"]), (role, profile))
        self.assertEqual(seen["tags"], {"infra:name": self.name})
        self.assertRegex(seen["mac"], "^0a:")
        self.ec2.delete_key_pair(KeyPairId=key["KeyPairId"])
        self.assertEqual(self.seen(instance)["public_key"], PUBLIC_KEY, "a machine keeps its key")

    def test_an_instance_without_a_mapping_has_the_images_root_volume(self) -> None:
        mappings = self.described(self.launched())["BlockDeviceMappings"]
        self.assertEqual([mapping["DeviceName"] for mapping in mappings], ["/dev/xvda"])
        disk = self.ec2.describe_volumes(VolumeIds=[mappings[0]["Ebs"]["VolumeId"]])["Volumes"][0]
        self.assertEqual((disk["VolumeType"], disk["Size"]), ("gp3", 8))

    def test_a_client_token_launches_once_and_only_the_same(self) -> None:
        _, profile = self.role_with({"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"})
        wanted = {"ClientToken": self.name, "IamInstanceProfile": {"Arn": profile}}
        first = self.launch(**wanted)
        second = self.launch(**wanted)
        self.assertEqual(first["ReservationId"], second["ReservationId"])
        instance = first["Instances"][0]["InstanceId"]
        self.assertEqual(instance, second["Instances"][0]["InstanceId"])
        self.refused("IdempotentParameterMismatch", self.launch, **wanted, UserData="another")
        found = self.ec2.describe_instances(Filters=[{"Name": "client-token", "Values": [self.name]}])
        self.assertEqual([each["InstanceId"] for each in found["Reservations"][0]["Instances"]], [instance])
        self.assertEqual(found["Reservations"][0]["Instances"][0]["ClientToken"], self.name)
        self.acknowledge(instance, "running")
        self.assertEqual(self.launch(**wanted)["Instances"][0]["State"]["Name"], "running")

    def test_as_many_as_possible_are_launched_all_with_the_profile(self) -> None:
        _, profile = self.role_with({"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"})
        instances = self.launch(MinCount=1, MaxCount=3, IamInstanceProfile={"Arn": profile})["Instances"]
        self.assertEqual(len(instances), 3)
        for instance in instances:
            self.assertEqual(self.seen(instance["InstanceId"])["profile_arn"], profile)
        self.refused("InvalidParameterValue", self.launch, MinCount=2, MaxCount=1)

    def test_an_interface_specification_gets_a_default_subnet_and_its_own_groups(self) -> None:
        group = self.ec2.create_security_group(GroupName=self.name, Description="x")["GroupId"]
        nic = {"DeviceIndex": 0, "AssociatePublicIpAddress": False, "Groups": [group]}
        instance = self.launched(NetworkInterfaces=[nic])
        found = self.described(instance)
        self.assertNotIn("PublicIpAddress", found)
        self.assertEqual([each["GroupId"] for each in found["SecurityGroups"]], [group])
        self.assertTrue(within(found["PrivateIpAddress"], VPC))

    def test_what_does_not_exist_is_refused_even_on_a_dry_run(self) -> None:
        for code, wrong in {
            "InvalidAMIID.NotFound": {"ImageId": "ami-0123456789abcdef0"},
            "InvalidAMIID.Malformed": {"ImageId": "debian"},
            "InvalidKeyPair.NotFound": {"KeyName": "absent"},
            "InvalidGroup.NotFound": {"SecurityGroupIds": ["sg-0123456789abcdef0"]},
            "InvalidSubnetID.NotFound": {"SubnetId": "subnet-0123456789abcdef0"},
        }.items():
            with self.subTest(code):
                self.refused(code, self.launch, **wrong)
                self.refused(code, self.launch, **wrong, DryRun=True)
        for wrong in (
            {"InstanceType": "t3.gigantic"},
            {"ImageId": self.image("arm64")},
            {"IamInstanceProfile": {"Name": "absent"}},
        ):
            with self.subTest(wrong=wrong):
                self.refused("InvalidParameterValue", self.launch, **wrong)
        self.refused("DryRunOperation", self.launch, DryRun=True)
        self.launch(ImageId=self.image("arm64"), InstanceType="t4g.micro")

    def test_instances_are_found_by_tag_and_unknown_ones_are_an_error(self) -> None:
        tags = [{"Key": "infra:name", "Value": self.name}, {"Key": "infra:role", "Value": "master"}]
        instance = self.launched(TagSpecifications=[{"ResourceType": "instance", "Tags": tags}])
        filters = [
            {"Name": "tag:infra:name", "Values": [self.name]},
            {"Name": "tag:infra:role", "Values": ["master", "replica"]},
            {"Name": "instance-state-name", "Values": ["pending", "running"]},
        ]
        found = self.ec2.describe_instances(Filters=filters)["Reservations"]
        self.assertEqual([each["Instances"][0]["InstanceId"] for each in found], [instance])
        for call in (self.ec2.describe_instances, self.ec2.terminate_instances, self.ec2.start_instances):
            self.refused("InvalidInstanceID.NotFound", call, InstanceIds=["i-0123456789abcdef0"])


class Lifecycle(CloudTest):
    def test_transitions_last_until_they_are_acknowledged(self) -> None:
        started = self.launch()["Instances"][0]
        instance = started["InstanceId"]
        self.assertEqual((started["State"]["Name"], self.state(instance)), ("pending", "pending"))
        self.assertTrue(self.acknowledge(instance, "running")["accepted"])
        self.assertEqual(self.state(instance), "running")
        stopping = self.ec2.stop_instances(InstanceIds=[instance])["StoppingInstances"][0]
        self.assertEqual(stopping["PreviousState"]["Name"], "running")
        self.assertEqual((stopping["CurrentState"]["Name"], self.state(instance)), ("stopping", "stopping"))
        self.refused("IncorrectInstanceState", self.ec2.start_instances, InstanceIds=[instance])
        self.refused("IncorrectInstanceState", self.ec2.reboot_instances, InstanceIds=[instance])
        self.acknowledge(instance, "stopped")
        self.assertEqual(self.state(instance), "stopped")
        self.ec2.start_instances(InstanceIds=[instance])
        self.assertEqual((self.state(instance), self.seen(instance)["boot_count_wanted"]), ("pending", 2))
        self.acknowledge(instance, "running")
        self.ec2.reboot_instances(InstanceIds=[instance])
        self.assertEqual((self.state(instance), self.seen(instance)["boot_count_wanted"]), ("running", 3))
        ending = self.ec2.terminate_instances(InstanceIds=[instance])["TerminatingInstances"][0]
        self.assertEqual((ending["CurrentState"]["Name"], self.state(instance)), ("shutting-down", "shutting-down"))
        self.assertFalse(self.acknowledge(instance, "running")["accepted"], "too late")
        self.acknowledge(instance, "terminated")
        found = self.described(instance)
        self.assertEqual(found["State"]["Name"], "terminated")
        self.assertFalse({"PublicIpAddress", "PrivateIpAddress", "SubnetId"} & set(found))
        for call in (self.ec2.start_instances, self.ec2.stop_instances, self.ec2.reboot_instances):
            self.refused("IncorrectInstanceState", call, InstanceIds=[instance])
        again = self.ec2.terminate_instances(InstanceIds=[instance])["TerminatingInstances"][0]
        self.assertEqual(again["CurrentState"]["Name"], "terminated")

    def test_one_instance_in_a_wrong_state_stops_the_whole_call(self) -> None:
        running, ended = self.launched(), self.launched()
        self.end(ended)
        self.refused("IncorrectInstanceState", self.ec2.stop_instances, InstanceIds=[running, ended])
        self.assertEqual(self.state(running), "running")

    def test_a_shutdown_from_inside_stops_the_instance(self) -> None:
        instance = self.launched()
        self.assertTrue(self.acknowledge(instance, "stopped")["accepted"])
        self.assertEqual(self.state(instance), "stopped")

    def test_an_acknowledgement_that_comes_too_late_changes_nothing(self) -> None:
        instance = self.launched()
        self.ec2.stop_instances(InstanceIds=[instance])
        self.acknowledge(instance, "stopped")
        self.ec2.start_instances(InstanceIds=[instance])
        self.assertFalse(self.acknowledge(instance, "stopped")["accepted"])
        self.assertEqual(self.state(instance), "pending")

    def test_a_stopped_instance_gets_another_public_address(self) -> None:
        instance = self.launched()
        before = self.described(instance)["PublicIpAddress"]
        self.ec2.stop_instances(InstanceIds=[instance])
        self.acknowledge(instance, "stopped")
        self.assertNotIn("PublicIpAddress", self.described(instance))
        self.assertEqual(self.seen(instance)["addresses"], [])
        self.ec2.start_instances(InstanceIds=[instance])
        after = self.described(instance)["PublicIpAddress"]
        self.assertNotEqual(before, after)
        self.assertTrue(within(after, PUBLIC))

    def test_a_protected_instance_is_not_terminated(self) -> None:
        instance = self.launched()
        self.ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": True})
        self.refused("OperationNotPermitted", self.ec2.terminate_instances, InstanceIds=[instance])
        self.ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": False})


class ElasticAddresses(CloudTest):
    def allocate(self) -> dict[str, str]:
        tags = [{"Key": "infra:name", "Value": self.name}]
        address = self.ec2.allocate_address(
            Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": tags}]
        )
        self.addCleanup(self.release, address["AllocationId"])
        return address

    def release(self, allocation: str) -> None:
        named = [{"Name": "allocation-id", "Values": [allocation]}]
        for address in self.ec2.describe_addresses(Filters=named)["Addresses"]:
            if "AssociationId" in address:
                self.ec2.disassociate_address(AssociationId=address["AssociationId"])
            self.ec2.release_address(AllocationId=allocation)

    def test_an_address_takes_the_public_ones_place_and_gives_it_back(self) -> None:
        instance, address = self.launched(), self.allocate()
        automatic = self.described(instance)["PublicIpAddress"]
        self.assertTrue(within(address["PublicIp"], ELASTIC))
        association = self.ec2.associate_address(InstanceId=instance, AllocationId=address["AllocationId"])
        self.assertEqual(self.described(instance)["PublicIpAddress"], address["PublicIp"])
        self.assertEqual(self.seen(instance)["addresses"], [address["PublicIp"]])
        self.refused("InvalidIPAddress.InUse", self.ec2.release_address, AllocationId=address["AllocationId"])
        self.ec2.disassociate_address(AssociationId=association["AssociationId"])
        later = self.described(instance)["PublicIpAddress"]
        self.assertTrue(within(later, PUBLIC))
        self.assertNotEqual(later, automatic)
        self.ec2.release_address(AllocationId=address["AllocationId"])
        self.refused("InvalidAllocationID.NotFound", self.ec2.release_address, AllocationId=address["AllocationId"])

    def test_an_address_moves_and_leaves_no_copy(self) -> None:
        one, two, address = self.launched(), self.launched(), self.allocate()
        self.ec2.associate_address(InstanceId=one, AllocationId=address["AllocationId"])
        stay = {"InstanceId": two, "AllocationId": address["AllocationId"], "AllowReassociation": False}
        self.refused("Resource.AlreadyAssociated", self.ec2.associate_address, **stay)
        self.ec2.associate_address(InstanceId=two, AllocationId=address["AllocationId"])
        self.assertEqual(self.seen(two)["addresses"], [address["PublicIp"]])
        self.assertNotIn(address["PublicIp"], self.seen(one)["addresses"])
        self.assertTrue(within(self.described(one)["PublicIpAddress"], PUBLIC))

    def test_an_address_stays_over_stop_and_start_and_is_free_after_termination(self) -> None:
        instance, address = self.launched(), self.allocate()
        self.ec2.associate_address(InstanceId=instance, AllocationId=address["AllocationId"])
        self.ec2.stop_instances(InstanceIds=[instance])
        self.acknowledge(instance, "stopped")
        self.ec2.start_instances(InstanceIds=[instance])
        self.acknowledge(instance, "running")
        self.assertEqual(self.seen(instance)["addresses"], [address["PublicIp"]])
        self.end(instance)
        self.assertNotIn("InstanceId", self.addresses()[0])
        self.ec2.release_address(AllocationId=address["AllocationId"])
        self.assertEqual(self.addresses(), [])

    def addresses(self) -> list[dict[str, str]]:
        return self.ec2.describe_addresses(Filters=[{"Name": "tag:infra:name", "Values": [self.name]}])["Addresses"]

    def test_a_pending_instance_takes_no_address(self) -> None:
        instance, address = self.launch()["Instances"][0]["InstanceId"], self.allocate()
        wanted = {"InstanceId": instance, "AllocationId": address["AllocationId"]}
        self.refused("InvalidInstanceID", self.ec2.associate_address, **wanted)
