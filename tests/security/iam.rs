//! Tries the credentials of a host, as an attacker gets them from its metadata service. They can
//! only make new objects under the host's own backups, over https. If one of the defences is taken
//! away, one of the tries succeeds.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use std::collections::BTreeMap;
use std::fmt::Debug;
use testkit::access::{Keys, config, config_of, variables};
use testkit::world::World;
use tokio::runtime::Runtime;

const OWN: &str = "backups/production/hourly/probe";
const REFUSALS: [&str; 4] = [
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "Forbidden",
];

/// The answer to each attempt: a refusal of AWS's for want of a permission, or the code of another
/// answer; `done` where it was carried out.
type Outcomes = BTreeMap<&'static str, String>;

fn outcome<T, E>(answer: Result<T, SdkError<E>>) -> String
where
    E: ProvideErrorMetadata + Debug,
{
    match answer {
        Ok(_) => "done".into(),
        Err(error) => match (error.code(), error.raw_response().map(|raw| raw.status().as_u16())) {
            (Some(code), _) if REFUSALS.contains(&code) => "refused".into(),
            // The answer to a HEAD has no body that could hold a code.
            (None, Some(403)) => "refused".into(),
            (Some(code), _) => code.into(),
            (None, _) => format!("{error:?}"),
        },
    }
}

struct Attempts {
    bucket: String,
    /// An object of this environment that somebody else put.
    backup: String,
    s3: Client,
    plain: Client,
    everything: aws_config::SdkConfig,
}

fn s3(config: &aws_config::SdkConfig) -> Client {
    let builder = aws_sdk_s3::config::Builder::from(config).force_path_style(true);
    Client::from_conf(builder.build())
}

impl Attempts {
    async fn new(keys: &Keys, bucket: &str, backup: &str) -> Self {
        let variables = variables();
        let everything = config_of(keys, &variables["AWS_ENDPOINT_URL_S3"]).await;
        Attempts {
            bucket: bucket.into(),
            backup: backup.into(),
            s3: s3(&everything),
            plain: s3(&config_of(keys, &variables["AWS_ENDPOINT_URL"]).await),
            everything,
        }
    }

    /// All that a host must be able to do.
    async fn put(&self, key: &str) -> String {
        let put = self.s3.put_object().bucket(&self.bucket).key(key);
        outcome(put.if_none_match("*").body(b"x".to_vec().into()).send().await)
    }

    /// Attempts to read something, or about it.
    async fn reads(&self) -> Outcomes {
        let (s3, bucket) = (&self.s3, &self.bucket);
        let get = |key: &str| s3.get_object().bucket(bucket).key(key);
        Outcomes::from([
            ("get what it put", outcome(get(OWN).send().await)),
            ("get a backup", outcome(get(&self.backup).send().await)),
            (
                "get the state",
                outcome(get("state/production/state.json").send().await),
            ),
            ("head", outcome(s3.head_object().bucket(bucket).key(OWN).send().await)),
            (
                "list",
                outcome(
                    s3.list_objects_v2()
                        .bucket(bucket)
                        .prefix("backups/production/")
                        .send()
                        .await,
                ),
            ),
            (
                "list versions",
                outcome(s3.list_object_versions().bucket(bucket).send().await),
            ),
            ("list buckets", outcome(s3.list_buckets().send().await)),
            (
                "read the bucket's policy",
                outcome(s3.get_bucket_policy().bucket(bucket).send().await),
            ),
            (
                "copy within its own prefix",
                outcome(
                    s3.copy_object()
                        .bucket(bucket)
                        .key(format!("{OWN}-copy"))
                        .copy_source(format!("{bucket}/{}", self.backup))
                        .send()
                        .await,
                ),
            ),
        ])
    }

    /// Attempts to take an object away, or to put another in its place.
    async fn overwrites(&self) -> Outcomes {
        let (s3, bucket) = (&self.s3, &self.bucket);
        let put = || s3.put_object().bucket(bucket).key(OWN).body(b"y".to_vec().into());
        let upload = s3
            .create_multipart_upload()
            .bucket(bucket)
            .key(OWN)
            .send()
            .await
            .unwrap();
        let upload = upload.upload_id.unwrap();
        let part = s3
            .upload_part()
            .bucket(bucket)
            .key(OWN)
            .upload_id(&upload)
            .part_number(1);
        let part = part.body(b"y".to_vec().into()).send().await.unwrap();
        let part = CompletedPart::builder()
            .part_number(1)
            .e_tag(part.e_tag.unwrap())
            .build();
        let complete = || {
            let parts = CompletedMultipartUpload::builder().parts(part.clone()).build();
            let complete = s3.complete_multipart_upload().bucket(bucket).key(OWN);
            complete.upload_id(&upload).multipart_upload(parts)
        };
        // The conditional one first: the upload ends with the one that is carried out.
        let conditional = outcome(complete().if_none_match("*").send().await);
        Outcomes::from([
            ("overwrite", outcome(put().send().await)),
            ("overwrite what is known", outcome(put().if_match("*").send().await)),
            ("overwrite on condition", outcome(put().if_none_match("*").send().await)),
            ("overwrite by an upload", outcome(complete().send().await)),
            ("overwrite by an upload on condition", conditional),
        ])
    }

    async fn deletes(&self) -> Outcomes {
        let (s3, bucket) = (&self.s3, &self.bucket);
        let id = ObjectIdentifier::builder().key(&self.backup).build().unwrap();
        let many = Delete::builder().objects(id).build().unwrap();
        let many = s3.delete_objects().bucket(bucket).delete(many).send().await.unwrap();
        let many = match many.errors().first().and_then(|error| error.code()) {
            Some("AccessDenied") => "refused",
            _ => "done",
        };
        Outcomes::from([
            (
                "delete what it put",
                outcome(s3.delete_object().bucket(bucket).key(OWN).send().await),
            ),
            ("delete a backup among many", many.into()),
            (
                "delete the bucket",
                outcome(s3.delete_bucket().bucket(bucket).send().await),
            ),
        ])
    }

    /// Tries other services, as an attacker would look around in them.
    async fn elsewhere(&self) -> Outcomes {
        let ec2 = aws_sdk_ec2::Client::new(&self.everything);
        let ssm = aws_sdk_ssm::Client::new(&self.everything);
        let iam = aws_sdk_iam::Client::new(&self.everything);
        let parameter = "/infra/demo/production/password/app";
        Outcomes::from([
            ("see instances", outcome(ec2.describe_instances().send().await)),
            (
                "end instances",
                outcome(ec2.terminate_instances().instance_ids("i-0").send().await),
            ),
            (
                "read a secret",
                outcome(ssm.get_parameter().name(parameter).with_decryption(true).send().await),
            ),
            (
                "read all secrets",
                outcome(ssm.get_parameters_by_path().path("/infra/demo/production").send().await),
            ),
            ("see users", outcome(iam.list_users().send().await)),
            (
                "see its own role",
                outcome(iam.get_role().role_name("infra-demo-production").send().await),
            ),
            (
                "widen its own role",
                outcome(
                    iam.put_role_policy()
                        .role_name("infra-demo-production")
                        .policy_name("more")
                        .policy_document(ANYTHING)
                        .send()
                        .await,
                ),
            ),
        ])
    }

    async fn over_plain_http(&self) -> String {
        let put = self.plain.put_object().bucket(&self.bucket).key(format!("{OWN}-plain"));
        outcome(put.if_none_match("*").body(b"x".to_vec().into()).send().await)
    }

    /// Fails if any call succeeds that a host does not need.
    #[track_caller]
    fn are_refused(&self, runtime: &Runtime) {
        let put = |key: &str| runtime.block_on(self.put(key));
        for key in [
            "backups/staging/hourly/probe",
            "backups/production2/probe",
            "state/production/state.json",
            "state/production/probe",
            "probe",
        ] {
            assert_eq!(put(key), "refused", "{key}");
        }
        for outcomes in [
            runtime.block_on(self.reads()),
            runtime.block_on(self.deletes()),
            runtime.block_on(self.elsewhere()),
        ] {
            for (what, outcome) in outcomes {
                assert_eq!(outcome, "refused", "{what}");
            }
        }
        self.overwrites_are_refused(runtime);
        assert_eq!(runtime.block_on(self.over_plain_http()), "refused");
    }

    #[track_caller]
    fn overwrites_are_refused(&self, runtime: &Runtime) {
        for (what, outcome) in runtime.block_on(self.overwrites()) {
            let on_condition = what.ends_with("on condition");
            let wanted = if on_condition { "PreconditionFailed" } else { "refused" };
            assert_eq!(outcome, wanted, "{what}");
        }
    }
}

const ANYTHING: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

/// Returns the credentials as a process on the host gets them.
fn credentials_of(world: &World, host: &str) -> Keys {
    let base = "http://169.254.169.254/latest";
    let script = format!(
        "'token=$(curl -sf -X PUT -H \"X-aws-ec2-metadata-token-ttl-seconds: 60\" {base}/api/token); \
         get() {{ curl -sf -H \"X-aws-ec2-metadata-token: $token\" {base}/meta-data/iam/security-credentials/$1; }}; get \"$(get)\"'"
    );
    let document = world.infra(&["ssh", host, "sudo", "sh", "-c", &script]).exits(0).json();
    let field = |name: &str| document[name].as_str().unwrap().to_string();
    Keys {
        id: field("AccessKeyId"),
        secret: field("SecretAccessKey"),
        token: Some(field("Token")),
    }
}

pub fn a_hosts_credentials_make_backups_and_nothing_else(world: &World) {
    world.infra(&["backup", "now"]).exits(0);
    let runtime = Runtime::new().unwrap();
    let operator = runtime.block_on(config());
    let (objects, iam) = (s3(&operator), aws_sdk_iam::Client::new(&operator));
    let bucket = "infra-demo-123456789012-us-east-1";
    let listed = objects.list_objects_v2().bucket(bucket).prefix("backups/production/");
    let listed = runtime.block_on(listed.send()).unwrap();
    let backup = listed.contents()[0].key().unwrap();

    let keys = credentials_of(world, "master");
    let host = runtime.block_on(Attempts::new(&keys, bucket, backup));
    assert_eq!(runtime.block_on(host.put(OWN)), "done");
    host.are_refused(&runtime);

    // Without the bucket's policy the same calls overwrite, and go over plain http.
    runtime
        .block_on(objects.delete_bucket_policy().bucket(bucket).send())
        .unwrap();
    let open = runtime.block_on(host.overwrites());
    for what in ["overwrite", "overwrite by an upload"] {
        assert_eq!(open[what], "done", "{what}");
    }
    assert_eq!(runtime.block_on(host.over_plain_http()), "done");
    let drift = world.status()["drift"].to_string();
    assert!(
        drift.contains("refuse everything but https, and to overwrite"),
        "{drift}"
    );
    world.infra(&["up", "--yes"]).exits(0);
    host.are_refused(&runtime);

    // With a wider role they read, delete and look around; what is there is still not overwritten.
    let widen = iam.put_role_policy().role_name("infra-demo-production");
    let widen = widen.policy_name("backups").policy_document(ANYTHING);
    runtime.block_on(widen.send()).unwrap();
    for (what, outcome) in runtime.block_on(host.reads()) {
        // There is no leave to copy onto what the bucket only lets be made.
        let wanted = if what.starts_with("copy") { "refused" } else { "done" };
        assert_eq!(outcome, wanted, "{what}");
    }
    for what in ["see instances", "read a secret", "see users"] {
        assert_eq!(runtime.block_on(host.elsewhere())[what], "done", "{what}");
    }
    // Its last change must not stay.
    let narrow = iam
        .delete_role_policy()
        .role_name("infra-demo-production")
        .policy_name("more");
    runtime.block_on(narrow.send()).unwrap();
    host.overwrites_are_refused(&runtime);
    assert_eq!(runtime.block_on(host.over_plain_http()), "refused");
    assert_eq!(runtime.block_on(host.deletes())["delete what it put"], "done");

    world.infra(&["up", "--yes"]).exits(0);
    assert_eq!(runtime.block_on(host.put(OWN)), "done");
    host.are_refused(&runtime);
    world.infra(&["backup", "now"]).exits(0);
}
