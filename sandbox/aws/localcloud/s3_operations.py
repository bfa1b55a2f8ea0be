"""Finds which S3 operation a request is, and its IAM action.

Source: S3 API Reference (operations) and Service Authorization Reference, "Actions, resources, and condition keys for
Amazon S3".
"""

from dataclasses import dataclass

from .request import Request

# Level and method -> [(query parameter, operation, action)]; the entry with an empty parameter is the default.
OPERATIONS: dict[tuple[str, str], list[tuple[str, str, str]]] = {
    ("service", "GET"): [("", "ListBuckets", "ListAllMyBuckets")],
    ("bucket", "HEAD"): [("", "HeadBucket", "ListBucket")],
    ("bucket", "GET"): [
        ("uploads", "ListMultipartUploads", "ListBucketMultipartUploads"),
        ("location", "GetBucketLocation", "GetBucketLocation"),
        ("lifecycle", "GetBucketLifecycleConfiguration", "GetLifecycleConfiguration"),
        ("versioning", "GetBucketVersioning", "GetBucketVersioning"),
        ("versions", "ListObjectVersions", "ListBucketVersions"),
        ("policy", "GetBucketPolicy", "GetBucketPolicy"),
        ("policyStatus", "GetBucketPolicyStatus", "GetBucketPolicyStatus"),
        ("publicAccessBlock", "GetPublicAccessBlock", "GetBucketPublicAccessBlock"),
        ("encryption", "GetBucketEncryption", "GetEncryptionConfiguration"),
        ("ownershipControls", "GetBucketOwnershipControls", "GetBucketOwnershipControls"),
        ("object-lock", "GetObjectLockConfiguration", "GetBucketObjectLockConfiguration"),
        ("replication", "GetBucketReplication", "GetReplicationConfiguration"),
        ("notification", "GetBucketNotificationConfiguration", "GetBucketNotification"),
        ("tagging", "GetBucketTagging", "GetBucketTagging"),
        ("acl", "GetBucketAcl", "GetBucketAcl"),
        ("cors", "GetBucketCors", "GetBucketCORS"),
        ("logging", "GetBucketLogging", "GetBucketLogging"),
        ("website", "GetBucketWebsite", "GetBucketWebsite"),
        ("list-type", "ListObjectsV2", "ListBucket"),
        ("", "ListObjects", "ListBucket"),
    ],
    ("bucket", "PUT"): [
        ("lifecycle", "PutBucketLifecycleConfiguration", "PutLifecycleConfiguration"),
        ("versioning", "PutBucketVersioning", "PutBucketVersioning"),
        ("policy", "PutBucketPolicy", "PutBucketPolicy"),
        ("publicAccessBlock", "PutPublicAccessBlock", "PutBucketPublicAccessBlock"),
        ("encryption", "PutBucketEncryption", "PutEncryptionConfiguration"),
        ("ownershipControls", "PutBucketOwnershipControls", "PutBucketOwnershipControls"),
        ("object-lock", "PutObjectLockConfiguration", "PutBucketObjectLockConfiguration"),
        ("replication", "PutBucketReplication", "PutReplicationConfiguration"),
        ("notification", "PutBucketNotificationConfiguration", "PutBucketNotification"),
        ("tagging", "PutBucketTagging", "PutBucketTagging"),
        ("acl", "PutBucketAcl", "PutBucketAcl"),
        ("cors", "PutBucketCors", "PutBucketCORS"),
        ("logging", "PutBucketLogging", "PutBucketLogging"),
        ("website", "PutBucketWebsite", "PutBucketWebsite"),
        ("", "CreateBucket", "CreateBucket"),
    ],
    ("bucket", "DELETE"): [
        ("lifecycle", "DeleteBucketLifecycle", "PutLifecycleConfiguration"),
        ("policy", "DeleteBucketPolicy", "DeleteBucketPolicy"),
        ("publicAccessBlock", "DeletePublicAccessBlock", "PutBucketPublicAccessBlock"),
        ("encryption", "DeleteBucketEncryption", "PutEncryptionConfiguration"),
        ("ownershipControls", "DeleteBucketOwnershipControls", "PutBucketOwnershipControls"),
        ("replication", "DeleteBucketReplication", "PutReplicationConfiguration"),
        ("tagging", "DeleteBucketTagging", "PutBucketTagging"),
        ("cors", "DeleteBucketCors", "PutBucketCORS"),
        ("website", "DeleteBucketWebsite", "DeleteBucketWebsite"),
        ("", "DeleteBucket", "DeleteBucket"),
    ],
    ("bucket", "POST"): [("delete", "DeleteObjects", ""), ("", "PostObject", "PutObject")],
    ("object", "HEAD"): [("", "HeadObject", "GetObject")],
    ("object", "GET"): [
        ("uploadId", "ListParts", "ListMultipartUploadParts"),
        ("tagging", "GetObjectTagging", "GetObjectTagging"),
        ("acl", "GetObjectAcl", "GetObjectAcl"),
        ("legal-hold", "GetObjectLegalHold", "GetObjectLegalHold"),
        ("retention", "GetObjectRetention", "GetObjectRetention"),
        ("attributes", "GetObjectAttributes", "GetObject"),
        ("", "GetObject", "GetObject"),
    ],
    ("object", "PUT"): [
        ("uploadId", "UploadPart", "PutObject"),
        ("tagging", "PutObjectTagging", "PutObjectTagging"),
        ("acl", "PutObjectAcl", "PutObjectAcl"),
        ("legal-hold", "PutObjectLegalHold", "PutObjectLegalHold"),
        ("retention", "PutObjectRetention", "PutObjectRetention"),
        ("", "PutObject", "PutObject"),
    ],
    ("object", "POST"): [
        ("uploads", "CreateMultipartUpload", "PutObject"),
        ("uploadId", "CompleteMultipartUpload", "PutObject"),
        ("restore", "RestoreObject", "RestoreObject"),
        ("select", "SelectObjectContent", "GetObject"),
    ],
    ("object", "DELETE"): [
        ("uploadId", "AbortMultipartUpload", "AbortMultipartUpload"),
        ("tagging", "DeleteObjectTagging", "DeleteObjectTagging"),
        ("", "DeleteObject", "DeleteObject"),
    ],
}
COPIES = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}
VERSIONED_ACTIONS = {
    "GetObject",
    "DeleteObject",
    "GetObjectTagging",
    "PutObjectTagging",
    "GetObjectAcl",
    "PutObjectAcl",
}


@dataclass(frozen=True)
class S3Operation:
    """The operation's name and the IAM action (with its `s3:`) that a caller needs; empty where each key is asked."""

    name: str
    action: str


def operation_of(request: Request) -> S3Operation:
    """Returns the operation that method, path and query string name; `Unknown` if S3 has none."""
    bucket, key = request.bucket_and_key
    level = "object" if key else "bucket" if bucket else "service"
    for parameter, name, action in OPERATIONS.get((level, request.method), []):
        if parameter and parameter not in request.query:
            continue
        operation = COPIES.get(name, name) if "x-amz-copy-source" in request.headers else name
        versioned = "versionId" in request.query and action in VERSIONED_ACTIONS
        permission = action.replace("Object", "ObjectVersion", 1) if versioned else action
        return S3Operation(operation, f"s3:{permission}" if permission else "")
    return S3Operation("Unknown", "s3:Unknown")
