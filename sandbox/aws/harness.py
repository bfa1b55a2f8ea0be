"""What the tests share: one server process on a free port, its clients, and the supervisor's calls."""

import atexit
import base64
import ipaddress
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

START_SECONDS = 20.0
HERE = Path(__file__).resolve().parent
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPTq6v0k6P3XqXGmC4Y3sZ4m2y9q1pQ1s8cYt5m9nR7o test"


SESSION = boto3.session.Session()


class Cloud:
    """A running server."""

    def __init__(self) -> None:
        self.port, tls_port = free_port(), free_port()
        self.endpoint, self.tls_endpoint = f"http://127.0.0.1:{self.port}", f"https://127.0.0.1:{tls_port}"
        self.folder = tempfile.TemporaryDirectory()
        self.certificate, key = self_signed(Path(self.folder.name))
        command = [sys.executable, str(HERE / "localcloud.py"), "--listen", f"127.0.0.1:{self.port}"]
        command += ["--listen-tls", f"127.0.0.1:{tls_port}", "--certificate", str(self.certificate), "--key", str(key)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "MOTO_"))}
        self.process = subprocess.Popen(command, env=environment)
        atexit.register(self.stop)
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server was not ready after {START_SECONDS} s")
            time.sleep(0.05)
        operator = self.supervisor("GET", "operator")
        self.keys = (operator["access_key_id"], operator["secret_access_key"])

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(10)

    def supervisor(self, method: str, path: str, document: Any = None) -> Any:
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"{self.endpoint}/_hv/{path}", data=body, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def client(self, service: str, keys: tuple[str, ...] | None = None, tls: bool = False, **options: Any) -> Any:
        """A client with these keys (access key id, secret, token if there is one), by default the operator's."""
        return self._client(service, keys or self.keys, tls, tuple(sorted(options.items())))

    @cache  # noqa: B019  there is one cloud for the whole run
    def _client(self, service: str, keys: tuple[str, ...], tls: bool, options: tuple[tuple[str, Any], ...]) -> Any:
        key, secret, *token = keys
        config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, **dict(options))
        return SESSION.client(
            service,
            endpoint_url=self.tls_endpoint if tls else self.endpoint,
            verify=str(self.certificate) if tls else None,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token[0] if token else None,
            config=config,
        )

    def _ready(self) -> bool:
        try:
            return self.supervisor("GET", "health")["ready"]
        except (urllib.error.URLError, ConnectionError):
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Files of a certificate for 127.0.0.1 and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    day = timedelta(days=1)
    builder = builder.serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return files


@cache
def cloud() -> Cloud:
    return Cloud()


class CloudTest(unittest.TestCase):
    """A test with clients of the operator, names of its own, and a way to expect refusals."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.cloud = cloud()
        cls.ec2, cls.s3, cls.iam, cls.ssm, cls.sts = (
            cls.cloud.client(service) for service in ("ec2", "s3", "iam", "ssm", "sts")
        )

    def setUp(self) -> None:
        behaviour = self.id().rpartition(".")[2].removeprefix("test_").replace("_", "-")
        self.name = f"{behaviour[:40]}-{time.time_ns() % 10**8}"

    def refused(self, code: str, call: Any, /, *args: Any, **kwargs: Any) -> ClientError:
        """Expects an AWS error with this code and returns it."""
        with self.assertRaises(ClientError) as caught:
            call(*args, **kwargs)
        self.assertEqual(caught.exception.response["Error"]["Code"], code, str(caught.exception))
        return caught.exception

    def image(self, architecture: str = "amd64") -> str:
        name = f"/aws/service/debian/release/13/latest/{architecture}"
        return self.ssm.get_parameter(Name=name)["Parameter"]["Value"]

    def launch(self, **parameters: Any) -> dict[str, Any]:
        """Runs instances of the smallest kind and returns the answer; they are terminated after the test."""
        wanted = {"ImageId": self.image(), "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1} | parameters
        reservation = self.ec2.run_instances(**wanted)
        for instance in reservation["Instances"]:
            self.addCleanup(self.end, instance["InstanceId"])
        return reservation

    def launched(self, **parameters: Any) -> str:
        """The id of one instance that has reached running."""
        instance = self.launch(**parameters)["Instances"][0]["InstanceId"]
        self.acknowledge(instance, "running")
        return instance

    def end(self, instance: str) -> None:
        self.ec2.terminate_instances(InstanceIds=[instance])
        self.acknowledge(instance, "terminated")

    def acknowledge(self, instance: str, state: str) -> dict[str, Any]:
        return self.cloud.supervisor("POST", "ack", {"instance": instance, "state": state})

    def described(self, instance: str) -> dict[str, Any]:
        return self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]

    def state(self, instance: str) -> str:
        return self.described(instance)["State"]["Name"]

    def seen(self, instance: str) -> dict[str, Any]:
        """The instance as the supervisor sees it."""
        world = self.cloud.supervisor("GET", "world")
        return next(entry for entry in world["instances"] if entry["id"] == instance)

    def bucket(self) -> str:
        self.s3.create_bucket(Bucket=self.name)
        return self.name

    def user_with(self, *statements: dict[str, Any]) -> tuple[str, str]:
        """The keys of a user who has one inline policy."""
        self.iam.create_user(UserName=self.name)
        self.iam.put_user_policy(UserName=self.name, PolicyName="main", PolicyDocument=policy_text(*statements))
        key = self.iam.create_access_key(UserName=self.name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def role_with(self, *statements: dict[str, Any]) -> tuple[str, str]:
        """Role and instance profile of one name, with one inline policy. Returns name and profile ARN."""
        trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        self.iam.create_role(RoleName=self.name, AssumeRolePolicyDocument=policy_text(trust))
        self.iam.put_role_policy(RoleName=self.name, PolicyName="main", PolicyDocument=policy_text(*statements))
        profile = self.iam.create_instance_profile(InstanceProfileName=self.name)["InstanceProfile"]
        self.iam.add_role_to_instance_profile(InstanceProfileName=self.name, RoleName=self.name)
        return self.name, profile["Arn"]

    def role_keys(self, instance: str) -> tuple[str, str, str]:
        document = self.cloud.supervisor("GET", f"role-credentials/{instance}")
        return document["AccessKeyId"], document["SecretAccessKey"], document["Token"]


def policy_text(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
