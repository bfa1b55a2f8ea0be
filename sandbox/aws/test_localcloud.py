"""Who is let in, what roles may do, planned failures, parameters, and the supervisor's paths."""

import http.client
import json
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from hashlib import sha256
from pathlib import Path

from harness import Cloud, CloudTest, encoded, policy_text


class Authentication(CloudTest):
    def test_wrong_keys_are_refused_by_every_service(self) -> None:
        calls = {
            "ec2": ("describe_instances", "AuthFailure"),
            "iam": ("list_roles", "InvalidClientTokenId"),
            "sts": ("get_caller_identity", "InvalidClientTokenId"),
            "ssm": ("describe_parameters", "UnrecognizedClientException"),
            "s3": ("list_buckets", "InvalidAccessKeyId"),
        }
        for service, (call, code) in calls.items():
            with self.subTest(service):
                self.refused(code, getattr(self.cloud.client(service, ("AKIAWRONGWRONGWRONG1", "wrong")), call))

    def test_a_wrong_secret_is_refused_by_every_service(self) -> None:
        calls = {
            "ec2": ("describe_instances", "AuthFailure"),
            "iam": ("list_roles", "SignatureDoesNotMatch"),
            "sts": ("get_caller_identity", "SignatureDoesNotMatch"),
            "ssm": ("describe_parameters", "InvalidSignatureException"),
            "s3": ("list_buckets", "SignatureDoesNotMatch"),
        }
        for service, (call, code) in calls.items():
            with self.subTest(service):
                self.refused(code, getattr(self.cloud.client(service, (self.cloud.keys[0], "wrong")), call))

    def test_unsigned_requests_and_motos_own_api_are_refused(self) -> None:
        for path in ("/", "/some-bucket/key", "/moto-api/data.json", "/latest/meta-data/"):
            with self.subTest(path), self.assertRaises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(self.cloud.endpoint + path, timeout=5)
            self.assertEqual(caught.exception.code, 403)

    def test_the_callers_address_is_answered_as_plain_text(self) -> None:
        with urllib.request.urlopen(f"{self.cloud.endpoint}/_hv/address", timeout=10) as response:
            self.assertEqual(response.read(), b"127.0.0.1\n")

    def test_a_connection_serves_one_request_after_the_other(self) -> None:
        host, port = self.cloud.endpoint.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        connection.connect()
        socket = connection.sock
        for method, path, status in (("GET", "/_hv/address", 200), ("POST", "/some-bucket?x", 403), ("HEAD", "/", 403)):
            connection.request(method, path, body=b"left unread" if method == "POST" else None)
            response = connection.getresponse()
            response.read()
            self.assertEqual((response.status, connection.sock), (status, socket), path)
        connection.close()

    def test_caller_identity_names_the_operator(self) -> None:
        identity = self.sts.get_caller_identity()
        self.assertEqual(identity["Account"], "123456789012")
        self.assertEqual(identity["Arn"], "arn:aws:iam::123456789012:user/operator")

    def test_presigned_urls_work_until_they_are_changed(self) -> None:
        bucket = self.bucket()
        signer = self.cloud.client("s3", signature_version="s3v4")
        url = signer.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "a b/ü+~"})
        urllib.request.urlopen(urllib.request.Request(url, data=b"presigned", method="PUT"), timeout=5)
        self.assertEqual(self.s3.get_object(Bucket=bucket, Key="a b/ü+~")["Body"].read(), b"presigned")
        with self.assertRaises(urllib.error.HTTPError) as caught:
            changed = urllib.request.Request(url.replace("a%20b", "b"), data=b"x", method="PUT")
            urllib.request.urlopen(changed, timeout=5)
        self.assertEqual(caught.exception.code, 403)

    def test_a_second_user_may_do_what_its_policy_says(self) -> None:
        self.iam.create_user(UserName=self.name)
        read = {"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}
        self.iam.put_user_policy(UserName=self.name, PolicyName="read", PolicyDocument=policy_text(read))
        key = self.iam.create_access_key(UserName=self.name)["AccessKey"]
        other = self.cloud.client("ec2", (key["AccessKeyId"], key["SecretAccessKey"]))
        other.describe_instances()
        self.refused("UnauthorizedOperation", other.create_security_group, GroupName="x", Description="x")
        self.iam.update_access_key(UserName=self.name, AccessKeyId=key["AccessKeyId"], Status="Inactive")
        self.refused("AuthFailure", other.describe_instances)


class HostRole(CloudTest):
    """The role of a host, which may put backups and nothing else."""

    def setUp(self) -> None:
        super().setUp()
        self.bucket_name = self.bucket()
        prefix = f"arn:aws:s3:::{self.bucket_name}/backups/env/*"
        self.role, profile = self.role_with({"Effect": "Allow", "Action": "s3:PutObject", "Resource": prefix})
        self.instance = self.launched(IamInstanceProfile={"Arn": profile})
        self.keys = self.role_keys(self.instance)
        self.host = self.cloud.client("s3", self.keys)

    def test_puts_under_its_prefix_and_nothing_else(self) -> None:
        inside = {"Bucket": self.bucket_name, "Key": "backups/env/hourly/1"}
        self.host.put_object(**inside, Body=b"base")
        denied = "AccessDenied"
        self.refused(denied, self.host.put_object, Bucket=self.bucket_name, Key="backups/other/1", Body=b"x")
        self.refused(denied, self.host.get_object, **inside)
        self.refused("403", self.host.head_object, **inside)
        self.refused(denied, self.host.delete_object, **inside)
        self.refused(denied, self.host.list_objects_v2, Bucket=self.bucket_name)
        source = {"Bucket": self.bucket_name, "Key": "backups/env/hourly/1"}
        self.refused(denied, self.host.copy_object, **inside, CopySource=source)
        self.refused(denied, self.host.list_buckets)
        self.refused("UnauthorizedOperation", self.cloud.client("ec2", self.keys).describe_instances)
        self.refused("AccessDeniedException", self.cloud.client("ssm", self.keys).get_parameter, Name="/x")
        self.refused("AccessDenied", self.cloud.client("iam", self.keys).list_roles)

    def test_a_multiple_delete_is_refused_key_by_key(self) -> None:
        self.host.put_object(Bucket=self.bucket_name, Key="backups/env/1", Body=b"base")
        answer = self.host.delete_objects(Bucket=self.bucket_name, Delete={"Objects": [{"Key": "backups/env/1"}]})
        self.assertEqual([error["Code"] for error in answer["Errors"]], ["AccessDenied"])
        self.s3.head_object(Bucket=self.bucket_name, Key="backups/env/1")

    def test_cannot_overwrite_where_the_policy_demands_a_condition(self) -> None:
        prefix = f"arn:aws:s3:::{self.bucket_name}/backups/env/*"
        self.iam.put_role_policy(
            RoleName=self.role,
            PolicyName="main",
            PolicyDocument=policy_text(
                {"Effect": "Allow", "Action": "s3:PutObject", "Resource": prefix},
                {
                    "Effect": "Deny",
                    "Action": "s3:PutObject",
                    "Resource": prefix,
                    "Condition": {"Null": {"s3:if-none-match": "true"}},
                },
            ),
        )
        put = {"Bucket": self.bucket_name, "Key": "backups/env/once", "Body": b"x"}
        self.refused("AccessDenied", self.host.put_object, **put)
        self.host.put_object(**put, IfNoneMatch="*")
        self.refused("PreconditionFailed", self.host.put_object, **put, IfNoneMatch="*")

    def test_credentials_are_the_metadata_services_and_need_their_token(self) -> None:
        document = self.cloud.supervisor("GET", f"role-credentials/{self.instance}")
        self.assertEqual((document["Code"], document["Type"]), ("Success", "AWS-HMAC"))
        self.assertEqual(document["AccessKeyId"], self.keys[0], "the same until they are about to expire")
        self.refused("InvalidAccessKeyId", self.cloud.client("s3", self.keys[:2]).list_buckets)
        self.refused("InvalidToken", self.cloud.client("s3", (*self.keys[:2], "another")).list_buckets)
        identity = self.cloud.client("sts", self.keys).get_caller_identity()
        self.assertEqual(identity["Arn"], f"arn:aws:sts::123456789012:assumed-role/{self.role}/{self.instance}")

    def test_losing_the_policy_takes_effect_at_once(self) -> None:
        self.iam.delete_role_policy(RoleName=self.role, PolicyName="main")
        self.refused("AccessDenied", self.host.put_object, Bucket=self.bucket_name, Key="backups/env/1", Body=b"x")

    def test_curl_puts_with_condition_and_checksum(self) -> None:
        body = b"a base backup" * 100_000  # beyond 1 MB curl asks for 100 Continue first
        url = f"{self.cloud.endpoint}/{self.bucket_name}/backups/env/hourly/base.rdb.zst"
        key, secret, token = self.keys
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "base")
            file.write_bytes(body)

            def put(content: bytes) -> str:
                settings = f'user = "{key}:{secret}"\nheader = "x-amz-security-token: {token}"\n'
                command = ["curl", "--silent", "--show-error", "--config", "-", "--aws-sigv4", "aws:amz:us-east-1:s3"]
                command += ["--upload-file", str(file), "--header", "If-None-Match: *"]
                command += ["--header", f"x-amz-checksum-sha256: {encoded(sha256(content).digest())}"]
                command += ["--header", f"x-amz-content-sha256: {sha256(body).hexdigest()}"]
                command += ["--output", "/dev/null", "--write-out", "%{http_code}", url]
                return subprocess.run(command, input=settings, capture_output=True, text=True, check=True).stdout

            self.assertEqual(put(b"something else"), "400")
            self.assertEqual(put(body), "200")
            self.assertEqual(put(body), "412")
        where = {"Bucket": self.bucket_name, "Key": "backups/env/hourly/base.rdb.zst"}
        found = self.s3.get_object(**where, ChecksumMode="ENABLED")
        self.assertEqual(found["Body"].read(), body)
        self.assertEqual(found["ChecksumSHA256"], encoded(sha256(body).digest()))


class Roles(CloudTest):
    def test_profile_and_role_go_in_the_right_order_only(self) -> None:
        name, _ = self.role_with({"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
        self.refused("EntityAlreadyExists", self.iam.create_role, RoleName=name, AssumeRolePolicyDocument=policy_text())
        self.refused("EntityAlreadyExists", self.iam.create_instance_profile, InstanceProfileName=name)
        both = {"InstanceProfileName": name, "RoleName": name}
        self.refused("LimitExceeded", self.iam.add_role_to_instance_profile, **both)
        self.refused("DeleteConflict", self.iam.delete_role, RoleName=name)
        self.refused("DeleteConflict", self.iam.delete_instance_profile, InstanceProfileName=name)
        self.iam.remove_role_from_instance_profile(**both)
        self.iam.delete_instance_profile(InstanceProfileName=name)
        self.refused("DeleteConflict", self.iam.delete_role, RoleName=name)
        self.iam.delete_role_policy(RoleName=name, PolicyName="main")
        self.iam.delete_role(RoleName=name)
        self.refused("NoSuchEntity", self.iam.get_role, RoleName=name)

    def test_a_role_is_assumed_only_by_whom_it_trusts(self) -> None:
        name, _ = self.role_with({"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
        arn = f"arn:aws:iam::123456789012:role/{name}"
        self.refused("AccessDenied", self.sts.assume_role, RoleArn=arn, RoleSessionName="me")
        trust = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "sts:AssumeRole"}
        self.iam.update_assume_role_policy(RoleName=name, PolicyDocument=policy_text(trust))
        keys = self.sts.assume_role(RoleArn=arn, RoleSessionName="me")["Credentials"]
        assumed = (keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
        self.cloud.client("s3", assumed).list_buckets()
        self.refused("UnauthorizedOperation", self.cloud.client("ec2", assumed).describe_vpcs)


class Parameters(CloudTest):
    def test_tags_and_overwrite_exclude_each_other(self) -> None:
        name = f"/infra/{self.name}/env/password"
        tags = [{"Key": "infra:name", "Value": "x"}]
        self.ssm.put_parameter(Name=name, Value="one", Type="SecureString", Tags=tags)
        both = {"Name": name, "Value": "two", "Type": "SecureString", "Overwrite": True}
        self.refused("ValidationException", self.ssm.put_parameter, **both, Tags=tags)
        self.refused("ParameterAlreadyExists", self.ssm.put_parameter, Name=name, Value="two", Type="SecureString")
        self.assertEqual(self.ssm.put_parameter(**both)["Version"], 2)
        self.assertEqual(self.ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"], tags)

    def test_a_value_beyond_the_standard_tier_is_refused(self) -> None:
        wanted = {"Name": f"/infra/{self.name}", "Type": "SecureString"}
        self.refused("ValidationException", self.ssm.put_parameter, **wanted, Value="x" * 4097)
        self.ssm.put_parameter(**wanted, Value="x" * 4096)

    def test_secure_strings_are_read_by_path_and_deleted_together(self) -> None:
        path = f"/infra/{self.name}/env"
        for part in ("a", "b/c"):
            self.ssm.put_parameter(Name=f"{path}/{part}", Value=f"secret {part}", Type="SecureString")
        self.assertNotEqual(self.ssm.get_parameter(Name=f"{path}/a")["Parameter"]["Value"], "secret a")
        found = self.ssm.get_parameters_by_path(Path=path, Recursive=True, WithDecryption=True)["Parameters"]
        self.assertEqual(sorted(each["Value"] for each in found), ["secret a", "secret b/c"])
        answer = self.ssm.delete_parameters(Names=[f"{path}/a", f"{path}/b/c", f"{path}/absent"])
        self.assertEqual(len(answer["DeletedParameters"]), 2)
        self.assertEqual(answer["InvalidParameters"], [f"{path}/absent"])
        self.refused("ParameterNotFound", self.ssm.get_parameter, Name=f"{path}/a")

    def test_a_role_reads_only_the_parameters_that_are_its_own(self) -> None:
        own = f"/infra/{self.name}/own"
        for name in (own, f"/infra/{self.name}/other"):
            self.ssm.put_parameter(Name=name, Value="x", Type="String")
        allowed = f"arn:aws:ssm:us-east-1:123456789012:parameter{own}"
        _, profile = self.role_with({"Effect": "Allow", "Action": "ssm:GetParameter", "Resource": allowed})
        host = self.cloud.client("ssm", self.role_keys(self.launched(IamInstanceProfile={"Arn": profile})))
        host.get_parameter(Name=own)
        self.refused("AccessDeniedException", host.get_parameter, Name=f"/infra/{self.name}/other")


class PlannedFailures(CloudTest):
    def tearDown(self) -> None:
        self.cloud.supervisor("DELETE", "fault")

    def test_strike_as_often_as_planned_and_only_under_the_prefix(self) -> None:
        bucket = self.bucket()
        plan = {"service": "s3", "operation": "PutObject", "status": 503, "count": 2, "key_prefix": "backups/"}
        self.cloud.supervisor("POST", "fault", plan)
        self.s3.put_object(Bucket=bucket, Key="state/lock.json", Body=b"x")
        for _ in range(2):
            self.refused("SlowDown", self.s3.put_object, Bucket=bucket, Key="backups/1", Body=b"x")
        self.s3.put_object(Bucket=bucket, Key="backups/1", Body=b"x")

    def test_strike_until_they_are_cleared(self) -> None:
        self.cloud.supervisor("POST", "fault", {"service": "ssm", "status": 500, "code": "InternalServerError"})
        for _ in range(3):
            self.refused("InternalServerError", self.ssm.describe_parameters)
        self.cloud.supervisor("DELETE", "fault")
        self.ssm.describe_parameters()

    def test_a_plan_with_an_unknown_field_is_refused(self) -> None:
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.cloud.supervisor("POST", "fault", {"service": "s3", "times": 3})
        self.assertEqual(caught.exception.code, 400)


class SupervisorPaths(CloudTest):
    def test_the_world_answers_when_something_changes_and_not_before(self) -> None:
        version = self.cloud.supervisor("GET", "world")["version"]
        answers: list[tuple[float, dict]] = []

        def wait() -> None:
            answers.append((time.monotonic(), self.cloud.supervisor("GET", f"world?after={version}")))
            answers.append((time.monotonic(), {}))

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.3)
        self.ec2.describe_instances()
        self.assertEqual(answers, [], "reading must not wake the supervisor")
        instance = self.launch()["Instances"][0]["InstanceId"]
        waiting.join(5)
        self.assertGreater(answers[0][1]["version"], version)
        self.assertIn(instance, [entry["id"] for entry in answers[0][1]["instances"]])

    def test_the_server_ends_cleanly_when_asked(self) -> None:
        self.assertEqual(Cloud().stop(), 0)

    def test_unknown_paths_and_states_are_refused(self) -> None:
        for method, path, document, status in (
            ("GET", "nothing", None, 404),
            ("POST", "ack", {"instance": "i-0", "state": "running"}, 404),
            ("POST", "ack", {"instance": "i-0", "state": "pending"}, 400),
            ("GET", "role-credentials/i-0", None, 404),
        ):
            with self.subTest(path, document=document), self.assertRaises(urllib.error.HTTPError) as caught:
                self.cloud.supervisor(method, path, document)
            self.assertEqual(caught.exception.code, status)
            self.assertIn("error", json.load(caught.exception))
