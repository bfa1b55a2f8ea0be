"""The knobs: late, throttled and reordered answers. And what needs no knob: a token's zone, deprecated images."""

import json
import time
import urllib.error
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError
from harness import PUBLIC_KEY, CloudTest, policy_text

OFF = {
    "policies_reordered": False,
    "unseen_s": 0,
    "versions_settle_s": 0,
    "throttled": {},
    "disk_key_refused": False,
    "stop_hangs": False,
    "cpu_credits": [],
    "volume_rest_s": 21600,
}


class Knobs(CloudTest):
    def tearDown(self) -> None:
        self.turn(**OFF)

    def turn(self, **knobs: Any) -> dict[str, Any]:
        return self.cloud.supervisor("POST", "knobs", knobs)

    def test_the_others_stay_and_an_unknown_one_is_refused(self) -> None:
        self.turn(unseen_s=3)
        self.assertEqual(self.turn(policies_reordered=True), OFF | {"unseen_s": 3, "policies_reordered": True})
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.turn(unheard_s=3)
        self.assertEqual(caught.exception.code, 400)

    def test_policies_come_back_reordered_with_one_string_in_place_of_a_list(self) -> None:
        self.turn(policies_reordered=True)
        bucket = self.bucket()
        arns = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        statement = {"Effect": "Deny", "Principal": "*", "Action": ["s3:PutObject"], "Resource": arns}
        self.s3.put_bucket_policy(Bucket=bucket, Policy=policy_text(statement))
        kept = json.loads(self.s3.get_bucket_policy(Bucket=bucket)["Policy"])
        self.assertEqual(kept["Statement"], [statement | {"Action": "s3:PutObject", "Resource": arns[::-1]}])
        name, _ = self.role_with({"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": arns})
        kept = self.iam.get_role_policy(RoleName=name, PolicyName="main")["PolicyDocument"]
        self.assertEqual(kept["Statement"][0]["Action"], "s3:PutObject")
        self.assertEqual(kept["Statement"][0]["Resource"], arns[::-1])

    def test_what_was_just_made_is_unknown_for_a_while(self) -> None:
        self.turn(unseen_s=0.6)
        ec2 = {"Service": "ec2.amazonaws.com"}
        trust = policy_text({"Effect": "Allow", "Principal": ec2, "Action": "sts:AssumeRole"})
        group = self.ec2.create_security_group(GroupName=self.name, Description="test")["GroupId"]
        self.iam.create_role(RoleName=self.name, AssumeRolePolicyDocument=trust)
        self.iam.create_instance_profile(InstanceProfileName=self.name)
        self.ec2.import_key_pair(KeyName=self.name, PublicKeyMaterial=PUBLIC_KEY.encode())
        bucket = self.bucket()
        instance = self.launch()["Instances"][0]["InstanceId"]
        profile, wanted = {"Name": self.name}, {"ImageId": self.image(), "MinCount": 1, "MaxCount": 1}
        early = [
            ("NoSuchEntity", self.iam.get_role, {"RoleName": self.name}),
            ("NoSuchEntity", self.iam.get_instance_profile, {"InstanceProfileName": self.name}),
            ("InvalidGroup.NotFound", self.ec2.run_instances, wanted | {"SecurityGroupIds": [group]}),
            ("InvalidKeyPair.NotFound", self.ec2.run_instances, wanted | {"KeyName": self.name}),
            ("InvalidParameterValue", self.ec2.run_instances, wanted | {"IamInstanceProfile": profile}),
            ("InvalidInstanceID.NotFound", self.ec2.describe_instances, {"InstanceIds": [instance]}),
            ("NoSuchBucket", self.s3.put_object, {"Bucket": bucket, "Key": "x", "Body": b"x"}),
        ]
        for code, call, parameters in early:
            with self.subTest(code):
                self.refused(code, call, **parameters)
        time.sleep(0.7)
        self.iam.get_role(RoleName=self.name)
        self.ec2.describe_instances(InstanceIds=[instance])
        self.s3.put_object(Bucket=bucket, Key="x", Body=b"x")

    def test_what_has_several_names_for_its_absence_answers_each_in_turn(self) -> None:
        self.turn(unseen_s=60)
        group = self.ec2.create_security_group(GroupName=self.name, Description="test")["GroupId"]
        address = self.ec2.allocate_address(Domain="vpc")["AllocationId"]
        of_group = {self.code(self.ec2.describe_security_groups, GroupIds=[group]) for _ in range(3)}
        of_address = {self.code(self.ec2.release_address, AllocationId=address) for _ in range(3)}
        self.assertEqual(
            of_group, {"InvalidGroup.NotFound", "InvalidGroupId.NotFound", "InvalidSecurityGroupID.NotFound"}
        )
        self.assertEqual(
            of_address, {"InvalidAllocationID.NotFound", "InvalidAddressID.NotFound", "InvalidAddress.NotFound"}
        )

    def code(self, call: Callable[..., Any], **parameters: Any) -> str:
        with self.assertRaises(ClientError) as caught:
            call(**parameters)
        return str(caught.exception.response["Error"]["Code"])

    def test_a_bucket_that_begins_to_keep_versions_hides_objects_for_a_while(self) -> None:
        self.turn(versions_settle_s=1)
        bucket = self.bucket()
        self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        self.s3.put_object(Bucket=bucket, Key="x", Body=b"x")
        codes = []
        for _ in range(6):
            try:
                self.s3.get_object(Bucket=bucket, Key="x")
                codes.append("found")
            except self.s3.exceptions.NoSuchKey:
                codes.append("404")
        self.assertEqual((codes.count("found"), codes.count("404")), (2, 4))
        self.assertEqual(self.s3.list_objects_v2(Bucket=bucket)["KeyCount"], 1)
        time.sleep(1.1)
        for _ in range(3):
            self.s3.get_object(Bucket=bucket, Key="x")

    def test_a_service_is_throttled_for_a_part_of_the_time(self) -> None:
        self.turn(throttled={service: [1000, 0.5] for service in ("ec2", "s3", "iam", "ssm")})
        self.refused("RequestLimitExceeded", self.ec2.describe_vpcs)
        self.refused("SlowDown", self.s3.list_buckets)
        self.refused("Throttling", self.iam.list_roles)
        self.refused("ThrottlingException", self.ssm.describe_parameters)
        time.sleep(0.6)
        self.ec2.describe_vpcs()

    def test_an_instance_whose_disk_key_is_refused_ends_and_says_so(self) -> None:
        self.turn(disk_key_refused=True)
        instance = self.launch()["Instances"][0]["InstanceId"]
        self.acknowledge(instance, "terminated")
        described = self.described(instance)
        self.assertEqual(described["State"]["Name"], "terminated")
        self.assertEqual(described["StateReason"]["Code"], "Client.InternalError")

    def test_a_stop_that_hangs_leaves_the_machine_running_until_it_is_let_go(self) -> None:
        self.turn(stop_hangs=True)
        instance = self.launched()
        for force in (False, True):
            self.ec2.stop_instances(InstanceIds=[instance], Force=force)
            self.assertEqual(self.state(instance), "stopping")
            self.assertEqual(self.seen(instance)["state"], "running")
        self.turn(stop_hangs=False)
        self.assertEqual(self.seen(instance)["state"], "stopping")


class WithoutKnobs(CloudTest):
    def test_a_client_token_launches_once_more_in_another_zone(self) -> None:
        subnets = self.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
        made = [
            self.launch(ClientToken=self.name, SubnetId=subnet["SubnetId"])["Instances"][0]["InstanceId"]
            for subnet in (subnets[0], subnets[1], subnets[0])
        ]
        self.assertEqual(made[0], made[2])
        self.assertNotEqual(made[0], made[1])

    def test_a_deprecated_image_is_left_out_unless_it_is_asked_for(self) -> None:
        old = "ami-0deb11616d6436340"
        by_id = [{"Name": "image-id", "Values": [old]}]
        self.assertEqual(self.ec2.describe_images(Filters=by_id)["Images"], [])
        found = self.ec2.describe_images(ImageIds=[old], IncludeDeprecated=True)["Images"]
        self.assertEqual([image["ImageId"] for image in found], [old])
        self.launch(ImageId=old)
