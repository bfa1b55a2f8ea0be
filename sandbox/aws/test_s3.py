"""Conditional writes, checksums, versions, bucket settings and bucket policies."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import md5, sha256
from threading import Barrier

from botocore.exceptions import ClientError
from harness import CloudTest, encoded, policy_text


class S3Test(CloudTest):
    def setUp(self) -> None:
        super().setUp()
        self.where = {"Bucket": self.bucket(), "Key": "state/lock.json"}

    def put(self, body: bytes = b"x", **conditions: str) -> str:
        return self.s3.put_object(**self.where, Body=body, **conditions)["ETag"]


class ConditionalWrites(S3Test):
    def test_create_only_if_absent(self) -> None:
        self.put(IfNoneMatch="*")
        refusal = self.refused("PreconditionFailed", self.put, IfNoneMatch="*")
        self.assertEqual(refusal.response["ResponseMetadata"]["HTTPStatusCode"], 412)
        self.s3.delete_object(**self.where)
        self.put(IfNoneMatch="*")

    def test_replace_and_delete_only_what_was_seen(self) -> None:
        self.refused("NoSuchKey", self.put, IfMatch='"0123"')
        first = self.put(b"one")
        second = self.put(b"two", IfMatch=first)
        self.refused("PreconditionFailed", self.put, b"three", IfMatch=first)
        self.refused("PreconditionFailed", self.s3.delete_object, **self.where, IfMatch=first)
        self.assertEqual(self.s3.get_object(**self.where)["Body"].read(), b"two")
        self.s3.delete_object(**self.where, IfMatch=second)
        self.refused("404", self.s3.head_object, **self.where)

    def test_of_many_at_once_one_wins(self) -> None:
        # Large bodies, so that hashing one lets another thread run between a check and its write.
        contenders, rounds, body = 8, 5, b"x" * 4_000_000
        together = Barrier(contenders)

        def attempt(_number: int) -> list[str]:
            outcomes = []
            for round_number in range(rounds):
                together.wait(10)
                where = {"Bucket": self.where["Bucket"], "Key": f"lock-{round_number}"}
                try:
                    self.s3.put_object(**where, Body=body, IfNoneMatch="*")
                    outcomes.append("won")
                except ClientError as error:
                    outcomes.append(error.response["Error"]["Code"])
            return outcomes

        with ThreadPoolExecutor(contenders) as pool:
            by_contender = list(pool.map(attempt, range(contenders)))
        for outcomes in zip(*by_contender, strict=True):
            self.assertEqual(sorted(outcomes), ["PreconditionFailed"] * (contenders - 1) + ["won"])

    def test_a_multipart_upload_may_be_conditional(self) -> None:
        upload = self.s3.create_multipart_upload(**self.where)["UploadId"]
        part = self.s3.upload_part(**self.where, UploadId=upload, PartNumber=1, Body=b"part")["ETag"]
        complete = {"UploadId": upload, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part}]}}
        self.put()
        self.refused("PreconditionFailed", self.s3.complete_multipart_upload, **self.where, **complete, IfNoneMatch="*")
        self.s3.delete_object(**self.where)
        self.s3.complete_multipart_upload(**self.where, **complete, IfNoneMatch="*")
        self.assertEqual(self.s3.get_object(**self.where)["Body"].read(), b"part")


class Checksums(S3Test):
    def test_a_wrong_checksum_is_refused_and_a_right_one_kept(self) -> None:
        body = b"base"
        wrong, right = encoded(sha256(b"other").digest()), encoded(sha256(body).digest())
        self.refused("BadDigest", self.put, body, ChecksumSHA256=wrong)
        self.refused("InvalidRequest", self.put, body, ChecksumSHA256="not base64!")
        self.refused("404", self.s3.head_object, **self.where)
        self.put(body, ChecksumSHA256=right)
        found = self.s3.head_object(**self.where, ChecksumMode="ENABLED")
        self.assertEqual(found["ChecksumSHA256"], right)

    def test_every_algorithm_is_checked(self) -> None:
        # Check values of "123456789" from the catalogue of parametrised CRC algorithms.
        right = {
            "CRC32": encoded(bytes.fromhex("cbf43926")),
            "CRC32C": encoded(bytes.fromhex("e3069283")),
            "CRC64NVME": encoded(bytes.fromhex("ae8b14860a799888")),
            "SHA1": encoded(bytes.fromhex("f7c3bc1d808e04732adf679965ccc34ca7ae3441")),
        }
        for algorithm, value in right.items():
            with self.subTest(algorithm):
                self.put(b"123456789", **{f"Checksum{algorithm}": value})
                self.refused("BadDigest", self.put, b"12345678", **{f"Checksum{algorithm}": value})

    def test_a_wrong_md5_is_refused(self) -> None:
        self.refused("BadDigest", self.put, b"x", ContentMD5=encoded(md5(b"y").digest()))
        self.refused("InvalidDigest", self.put, b"x", ContentMD5="short")
        self.put(b"x", ContentMD5=encoded(md5(b"x").digest()))


class Versions(S3Test):
    def setUp(self) -> None:
        super().setUp()
        enabled = {"Status": "Enabled"}
        self.s3.put_bucket_versioning(Bucket=self.where["Bucket"], VersioningConfiguration=enabled)

    def versions(self) -> list[dict[str, str]]:
        found = self.s3.list_object_versions(Bucket=self.where["Bucket"])
        return found.get("Versions", []) + found.get("DeleteMarkers", [])

    def test_old_versions_stay_until_they_are_deleted_by_name(self) -> None:
        self.put(b"one")
        self.put(b"two")
        self.s3.delete_object(**self.where)
        self.refused("NoSuchKey", self.s3.get_object, **self.where)
        self.assertEqual(len(self.versions()), 3)
        self.put(b"three", IfNoneMatch="*")
        self.refused("BucketNotEmpty", self.s3.delete_bucket, Bucket=self.where["Bucket"])
        named = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in self.versions()]
        answer = self.s3.delete_objects(Bucket=self.where["Bucket"], Delete={"Objects": named})
        self.assertEqual(len(answer["Deleted"]), 4)
        self.assertEqual(self.versions(), [])
        self.s3.delete_bucket(Bucket=self.where["Bucket"])

    def test_a_version_is_read_by_its_id(self) -> None:
        first = self.s3.put_object(**self.where, Body=b"one")["VersionId"]
        self.put(b"two")
        self.assertEqual(self.s3.get_object(**self.where, VersionId=first)["Body"].read(), b"one")


class Buckets(S3Test):
    def test_an_own_bucket_is_created_again_and_an_absent_one_is_reported(self) -> None:
        self.s3.create_bucket(Bucket=self.where["Bucket"])
        self.s3.head_bucket(Bucket=self.where["Bucket"])
        self.refused("404", self.s3.head_bucket, Bucket="absent-bucket")
        self.refused("NoSuchBucket", self.s3.list_objects_v2, Bucket="absent-bucket")
        self.refused("NoSuchBucket", self.s3.put_object, Bucket="absent-bucket", Key="k", Body=b"x", IfNoneMatch="*")

    def test_settings_are_kept(self) -> None:
        bucket = {"Bucket": self.where["Bucket"]}
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        self.s3.put_bucket_encryption(**bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
        kept = self.s3.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
        self.assertEqual(kept["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"], "AES256")
        kinds = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        block = dict.fromkeys(kinds, True)
        self.s3.put_public_access_block(**bucket, PublicAccessBlockConfiguration=block)
        self.assertEqual(self.s3.get_public_access_block(**bucket)["PublicAccessBlockConfiguration"], block)
        lifecycle = {
            "ID": "hourly",
            "Status": "Enabled",
            "Filter": {"Prefix": "backups/env/hourly/"},
            "Expiration": {"Days": 3},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        }
        self.s3.put_bucket_lifecycle_configuration(**bucket, LifecycleConfiguration={"Rules": [lifecycle]})
        self.assertEqual(self.s3.get_bucket_lifecycle_configuration(**bucket)["Rules"], [lifecycle])
        self.s3.put_bucket_tagging(**bucket, Tagging={"TagSet": [{"Key": "infra:name", "Value": "x"}]})
        self.assertEqual(self.s3.get_bucket_tagging(**bucket)["TagSet"][0]["Key"], "infra:name")

    def test_answers_have_the_outermost_element_that_strict_clients_ask_for(self) -> None:
        answers = {}
        self.s3.meta.events.register(
            "before-parse.s3",
            lambda response_dict, **_: answers.update(
                {response_dict["context"]["operation_name"]: response_dict["body"].decode()}
            ),
            unique_id=self.name,
        )
        self.addCleanup(self.s3.meta.events.unregister, "before-parse.s3", unique_id=self.name)
        bucket = self.bucket()
        self.s3.get_bucket_versioning(Bucket=bucket)
        upload = self.s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
        self.s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)
        self.assertIn("<VersioningConfiguration", answers["GetBucketVersioning"])
        self.assertIn("<ListPartsResult", answers["ListParts"])

    def test_absent_settings_have_their_own_errors(self) -> None:
        bucket = {"Bucket": self.where["Bucket"]}
        self.s3.delete_public_access_block(**bucket)
        self.refused("NoSuchPublicAccessBlockConfiguration", self.s3.get_public_access_block, **bucket)
        self.refused("NoSuchLifecycleConfiguration", self.s3.get_bucket_lifecycle_configuration, **bucket)
        self.refused("NoSuchBucketPolicy", self.s3.get_bucket_policy, **bucket)
        self.refused("NoSuchTagSet", self.s3.get_bucket_tagging, **bucket)
        self.assertNotIn("Status", self.s3.get_bucket_versioning(**bucket))

    def test_a_new_bucket_is_encrypted_and_closed_to_the_public(self) -> None:
        block = self.s3.get_public_access_block(Bucket=self.where["Bucket"])["PublicAccessBlockConfiguration"]
        self.assertEqual(set(block.values()), {True})
        kept = self.s3.get_bucket_encryption(Bucket=self.where["Bucket"])["ServerSideEncryptionConfiguration"]
        self.assertEqual(kept["Rules"][0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"], "AES256")

    def test_listing_goes_page_by_page(self) -> None:
        keys = [f"backups/{number:03}" for number in range(25)]
        for key in keys:
            self.s3.put_object(Bucket=self.where["Bucket"], Key=key, Body=b"x")
        pages = list(
            self.s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.where["Bucket"], Prefix="backups/", PaginationConfig={"PageSize": 10}
            )
        )
        self.assertEqual(len(pages), 3)
        self.assertEqual([entry["Key"] for page in pages for entry in page["Contents"]], keys)


class BucketPolicies(S3Test):
    def test_a_malformed_policy_is_refused(self) -> None:
        for text in ("no json", "{}", policy_text({"Effect": "Deny", "Action": "s3:*"})):
            with self.subTest(text=text):
                bucket = self.where["Bucket"]
                self.refused("MalformedPolicy", self.s3.put_bucket_policy, Bucket=bucket, Policy=text)

    def test_a_deny_counts_where_its_condition_holds_and_only_there(self) -> None:
        bucket = self.where["Bucket"]
        resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": resources}
        over_tls = deny | {"Condition": {"Bool": {"aws:SecureTransport": "true"}}}
        self.s3.put_bucket_policy(Bucket=bucket, Policy=policy_text(over_tls))
        self.put()
        self.s3.get_object(**self.where)
        not_over_tls = deny | {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}
        self.s3.put_bucket_policy(Bucket=bucket, Policy=policy_text(not_over_tls))
        self.refused("AccessDenied", self.s3.get_object, **self.where)
        self.put()
        self.s3.delete_bucket_policy(Bucket=bucket)
        self.s3.get_object(**self.where)

    def test_a_bucket_may_let_in_a_role_that_has_no_policy_of_its_own(self) -> None:
        role, profile = self.role_with({"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"})
        host = self.cloud.client("s3", self.role_keys(self.launched(IamInstanceProfile={"Arn": profile})))
        self.put(b"shared")
        self.refused("AccessDenied", host.get_object, **self.where)
        allow = {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::123456789012:role/{role}"},
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{self.where['Bucket']}/state/*",
        }
        self.s3.put_bucket_policy(Bucket=self.where["Bucket"], Policy=policy_text(allow))
        self.assertEqual(host.get_object(**self.where)["Body"].read(), b"shared")
        self.refused("AccessDenied", host.get_object, Bucket=self.where["Bucket"], Key="state/absent")
        self.refused("AccessDenied", host.put_object, **self.where, Body=b"x")
