"""What users with narrow policies may do: EC2 by resource and condition, roles that are passed, tags, https, locks."""

from typing import Any

from harness import PUBLIC_KEY, CloudTest
from harness import policy_text as policy

ACCOUNT = "123456789012"
EC2 = f"arn:aws:ec2:us-east-1:{ACCOUNT}"
DENIED = "UnauthorizedOperation"


def allow(action: Any, resource: Any = "*", **condition: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return statement | ({"Condition": condition} if condition else {})


def deny(action: Any, resource: Any = "*", **condition: Any) -> dict[str, Any]:
    return allow(action, resource, **condition) | {"Effect": "Deny"}


class Launching(CloudTest):
    """RunInstances needs permission for everything that it makes and uses."""

    def setUp(self) -> None:
        super().setUp()
        wanted = {"GroupName": self.name, "Description": "x", "TagSpecifications": self.tags("security-group")}
        self.group = self.ec2.create_security_group(**wanted)["GroupId"]
        self.ec2.import_key_pair(KeyName=self.name, PublicKeyMaterial=PUBLIC_KEY.encode())
        _, self.profile = self.role_with(allow("s3:PutObject"))
        self.subnet = self.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        asked, tagged = {"aws:RequestTag/env": self.name}, {"aws:ResourceTag/env": self.name}
        to_ec2, role = {"iam:PassedToService": "ec2.amazonaws.com"}, f"arn:aws:iam::{ACCOUNT}:role/{self.name}"
        self.parts = {
            "made": allow("ec2:RunInstances", [f"{EC2}:instance/*", f"{EC2}:volume/*"], StringEquals=asked),
            "interface": allow("ec2:RunInstances", [f"{EC2}:network-interface/*", f"{EC2}:subnet/*"]),
            "image": allow("ec2:RunInstances", "arn:aws:ec2:us-east-1::image/*"),
            "group": allow("ec2:RunInstances", f"{EC2}:security-group/*", StringEquals=tagged),
            "key": allow("ec2:RunInstances", f"{EC2}:key-pair/{self.name}"),
            "tags": allow("ec2:CreateTags", f"{EC2}:*/*", StringEquals=asked | {"ec2:CreateAction": "RunInstances"}),
            "role": allow("iam:PassRole", role, StringEquals=to_ec2),
        }

    def tags(self, *kinds: str, env: str | None = None) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": [{"Key": "env", "Value": env or self.name}]} for kind in kinds]

    def run_as(self, keys: tuple[str, str], **others: Any) -> str:
        parameters = {
            "ImageId": self.image(),
            "InstanceType": "t3.micro",
            "MinCount": 1,
            "MaxCount": 1,
            "KeyName": self.name,
            "IamInstanceProfile": {"Arn": self.profile},
            "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": self.subnet, "Groups": [self.group]}],
            "TagSpecifications": self.tags("instance", "volume"),
        }
        answer = self.cloud.client("ec2", keys).run_instances(**parameters | others)
        instance = answer["Instances"][0]["InstanceId"]
        self.addCleanup(self.end, instance)
        return instance

    def test_each_part_is_needed(self) -> None:
        keys = self.user_with(*self.parts.values())
        self.run_as(keys)
        for missing in self.parts:
            statements = [statement for name, statement in self.parts.items() if name != missing]
            with self.subTest(missing):
                self.iam.put_user_policy(UserName=self.name, PolicyName="main", PolicyDocument=policy(*statements))
                self.refused(DENIED, self.run_as, keys)

    def test_other_tags_or_none_are_refused(self) -> None:
        keys = self.user_with(*self.parts.values())
        self.refused(DENIED, self.run_as, keys, TagSpecifications=self.tags("instance", "volume", env="other"))
        self.refused(DENIED, self.run_as, keys, TagSpecifications=self.tags("instance"))

    def test_tags_of_the_instance_decide_who_ends_it(self) -> None:
        mine = allow("ec2:TerminateInstances", f"{EC2}:instance/*", StringEquals={"ec2:ResourceTag/env": self.name})
        keys = self.user_with(*self.parts.values(), mine)
        own = self.run_as(keys)
        other = self.launched()
        client = self.cloud.client("ec2", keys)
        client.terminate_instances(InstanceIds=[own])
        self.refused(DENIED, client.terminate_instances, InstanceIds=[other])
        self.refused(DENIED, client.create_tags, Resources=[other], Tags=[{"Key": "env", "Value": self.name}])

    def test_metadata_without_tokens_can_be_forbidden(self) -> None:
        weak = deny("ec2:RunInstances", f"{EC2}:instance/*", StringNotEquals={"ec2:MetadataHttpTokens": "required"})
        keys = self.user_with(*self.parts.values(), weak)
        self.refused(DENIED, self.run_as, keys)
        self.run_as(keys, MetadataOptions={"HttpTokens": "required"})


class Others(CloudTest):
    def test_looking_is_asked_of_no_resource_and_of_one_region(self) -> None:
        here = {"StringEquals": {"aws:RequestedRegion": "us-east-1"}}
        keys = self.user_with(allow("ec2:DescribeInstances", **here))
        self.cloud.client("ec2", keys).describe_instances()
        self.refused(DENIED, self.cloud.client("ec2", keys).describe_volumes)

    def test_a_group_is_made_with_the_tags_that_are_allowed(self) -> None:
        asked = {"aws:RequestTag/env": self.name}
        by_making = asked | {"ec2:CreateAction": "CreateSecurityGroup"}
        keys = self.user_with(
            allow("ec2:CreateSecurityGroup", f"{EC2}:security-group/*", StringEquals=asked),
            allow("ec2:CreateSecurityGroup", f"{EC2}:vpc/*"),
            allow("ec2:CreateTags", f"{EC2}:security-group/*", StringEquals=by_making),
        )
        client = self.cloud.client("ec2", keys)
        vpc = self.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        tags = [{"ResourceType": "security-group", "Tags": [{"Key": "env", "Value": self.name}]}]
        wanted = {"GroupName": self.name, "Description": "x", "VpcId": vpc}
        self.refused(DENIED, client.create_security_group, **wanted)
        client.create_security_group(**wanted, TagSpecifications=tags)

    def test_a_role_is_passed_into_a_profile_only_by_who_may_pass_it(self) -> None:
        name, _ = self.role_with(allow("s3:PutObject"))
        profile = f"{name}-2"
        self.iam.create_instance_profile(InstanceProfileName=profile)
        may_add = allow("iam:AddRoleToInstanceProfile", f"arn:aws:iam::{ACCOUNT}:instance-profile/{profile}")
        client = self.cloud.client("iam", self.user_with(may_add))
        self.refused("AccessDenied", client.add_role_to_instance_profile, InstanceProfileName=profile, RoleName=name)
        may_pass = allow("iam:PassRole", "*", StringEquals={"iam:PassedToService": "ec2.amazonaws.com"})
        self.iam.put_user_policy(UserName=name, PolicyName="main", PolicyDocument=policy(may_add, may_pass))
        client.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=name)

    def test_making_with_tags_needs_permission_to_tag(self) -> None:
        keys = self.user_with(allow(["iam:CreateRole", "ssm:PutParameter"]))
        tags = [{"Key": "env", "Value": "x"}]
        iam, ssm = self.cloud.client("iam", keys), self.cloud.client("ssm", keys)
        trust = policy({"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"})
        self.refused("AccessDenied", iam.create_role, RoleName=self.name, AssumeRolePolicyDocument=trust, Tags=tags)
        iam.create_role(RoleName=self.name, AssumeRolePolicyDocument=trust)
        parameter = {"Name": f"/infra/{self.name}/x", "Value": "x", "Type": "String"}
        self.refused("AccessDeniedException", ssm.put_parameter, **parameter, Tags=tags)
        ssm.put_parameter(**parameter)

    def test_what_aws_publishes_belongs_to_no_account(self) -> None:
        name = "/aws/service/debian/release/13/latest/amd64"
        keys = self.user_with(allow("ssm:GetParameter", "arn:aws:ssm:us-east-1::parameter/aws/service/debian/*"))
        self.cloud.client("ssm", keys).get_parameter(Name=name)

    def test_every_need_is_recorded_with_its_verdict(self) -> None:
        keys = self.user_with(allow("s3:ListAllMyBuckets"))
        self.cloud.client("s3", keys).list_buckets()
        self.refused("AccessDeniedException", self.cloud.client("ssm", keys).get_parameter, Name="/x")
        caller = f"arn:aws:iam::{ACCOUNT}:user/{self.name}"
        uses = [use for use in self.cloud.supervisor("GET", "uses")["uses"] if use["caller"] == caller]
        seen = [(use["action"], use["allowed"]) for use in uses]
        self.assertEqual(seen, [("s3:ListAllMyBuckets", True), ("ssm:GetParameter", False)])


class BucketPolicies(CloudTest):
    def put_policy(self, *statements: dict[str, Any]) -> str:
        bucket = self.bucket()
        self.s3.put_bucket_policy(Bucket=bucket, Policy=policy(*({"Principal": "*"} | each for each in statements)))
        return bucket

    def test_plain_http_is_refused_where_a_bucket_says_so(self) -> None:
        bucket = self.put_policy(deny("s3:*", f"arn:aws:s3:::{self.name}/*", Bool={"aws:SecureTransport": "false"}))
        put = {"Bucket": bucket, "Key": "x", "Body": b"x"}
        self.refused("AccessDenied", self.s3.put_object, **put)
        self.cloud.client("s3", tls=True).put_object(**put)

    def test_creation_without_a_condition_is_refused_in_every_form(self) -> None:
        conditions = {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}}
        bucket = self.put_policy(deny("s3:PutObject", f"arn:aws:s3:::{self.name}/backups/*", **conditions))
        where = {"Bucket": bucket, "Key": "backups/x"}
        self.s3.put_object(Bucket=bucket, Key="state/x", Body=b"x")
        self.refused("AccessDenied", self.s3.put_object, **where, Body=b"x")
        source = f"{bucket}/state/x"
        self.refused("AccessDenied", self.s3.copy_object, **where, CopySource=source)
        etag = self.s3.put_object(**where, Body=b"x", IfNoneMatch="*")["ETag"]
        self.refused("AccessDenied", self.s3.put_object, **where, Body=b"y", IfMatch=etag)
        self.refused("PreconditionFailed", self.s3.put_object, **where, Body=b"y", IfNoneMatch="*")

        where = {"Bucket": bucket, "Key": "backups/large"}
        upload = self.s3.create_multipart_upload(**where)["UploadId"]
        part = self.s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
        parts = {"Parts": [{"ETag": part, "PartNumber": 1}]}
        complete = {**where, "UploadId": upload, "MultipartUpload": parts}
        self.refused("AccessDenied", self.s3.complete_multipart_upload, **complete)
        self.s3.complete_multipart_upload(**complete, IfNoneMatch="*")


class ObjectLock(CloudTest):
    def locked(self, mode: str) -> tuple[str, str]:
        """A bucket that was locked with an object in it already, and the version of an object that came after."""
        bucket = self.bucket()
        self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        self.s3.put_object(Bucket=bucket, Key="before", Body=b"x")
        rule = {"DefaultRetention": {"Mode": mode, "Days": 3}}
        wanted = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        self.s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=wanted)
        return bucket, self.s3.put_object(Bucket=bucket, Key="after", Body=b"x")["VersionId"]

    def test_a_governed_version_goes_only_by_the_bypass(self) -> None:
        bucket, version = self.locked("GOVERNANCE")
        which = {"Bucket": bucket, "Key": "after", "VersionId": version}
        self.refused("AccessDenied", self.s3.delete_object, **which)
        keys = self.user_with(allow("s3:DeleteObjectVersion"))
        user = self.cloud.client("s3", keys)
        self.refused("AccessDenied", user.delete_object, **which, BypassGovernanceRetention=True)
        listed = {"Objects": [{"Key": "after", "VersionId": version}]}
        delete = {"Bucket": bucket, "Delete": listed, "BypassGovernanceRetention": True}
        self.assertEqual(len(user.delete_objects(**delete)["Errors"]), 1)
        self.assertNotIn("Errors", self.s3.delete_objects(**delete))

    def test_a_version_under_compliance_stays_and_says_until_when(self) -> None:
        bucket, version = self.locked("COMPLIANCE")
        which = {"Bucket": bucket, "Key": "after", "VersionId": version}
        self.refused("AccessDenied", self.s3.delete_object, **which, BypassGovernanceRetention=True)
        self.assertEqual(self.s3.get_object_retention(**which)["Retention"]["Mode"], "COMPLIANCE")
        self.s3.delete_object(Bucket=bucket, Key="after")

    def test_an_object_without_a_checksum_is_refused(self) -> None:
        bucket, _ = self.locked("GOVERNANCE")
        bare = self.cloud.client("s3", request_checksum_calculation="when_required")
        self.refused("InvalidRequest", bare.put_object, Bucket=bucket, Key="x", Body=b"x")


