//! Makes the dump that a base is compared with: `redis-cli --rdb - | zstd -1 | aws s3 cp -`, as
//! many hosts run it from a crontab.

use crate::Outcome;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;
use testkit::access;
use testkit::aws::call;
use testkit::backups::World;

/// The limit for each program of the pipe, in seconds.
const LONGEST: &str = "180";
/// Replaces a missing AWS CLI: the library beneath it.
const UPLOAD: &str = "import boto3, sys; boto3.client('s3').upload_fileobj(sys.stdin.buffer, sys.argv[1], sys.argv[2])";

/// The program at the end of the pipe, and its arguments.
pub struct Uploader {
    pub name: String,
    program: PathBuf,
    words: Vec<String>,
}

impl Uploader {
    /// Returns the AWS CLI if it works, else boto3 of the sandbox's Python.
    pub fn find(world: &World) -> Outcome<Self> {
        let bucket = world.bucket.name();
        let version = Command::new("aws").arg("--version").stderr(Stdio::null()).output();
        if let Ok(output) = version
            && output.status.success()
        {
            let name = String::from_utf8_lossy(&output.stdout);
            return Ok(Uploader {
                name: name.split(' ').next().unwrap_or("aws").into(),
                program: "aws".into(),
                words: ["s3", "cp", "-", &format!("s3://{bucket}/bench/pipe.zst"), "--quiet"]
                    .map(String::from)
                    .to_vec(),
            });
        }
        Ok(Uploader {
            name: "boto3".into(),
            program: access::paths().python_environment().join("bin/python"),
            words: ["-c", UPLOAD, bucket, "bench/pipe.zst"].map(String::from).to_vec(),
        })
    }

    /// Returns the seconds until a dump is in the bucket.
    pub fn run(&self, world: &World) -> Outcome<f64> {
        let keys = call(world.aws.address, "GET", "/_hv/operator", None).ok_or("the sandbox names no operator")?;
        let key = |name: &str| keys[name].as_str().unwrap_or_default().to_string();
        // By default an engine waits five seconds for further replicas.
        world.ask(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
        let begun = Instant::now();
        let mut dump = bounded("redis-cli")
            .arg("-s")
            .arg(world.path("s"))
            .args(["--rdb", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut compress = bounded("zstd")
            .args(["-1", "-q", "-c"])
            .stdin(dump.stdout.take().ok_or("redis-cli has no output")?)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut upload = bounded(&self.program.display().to_string())
            .args(&self.words)
            .env("AWS_ENDPOINT_URL", format!("http://{}", world.aws.address))
            .env("AWS_ACCESS_KEY_ID", key("access_key_id"))
            .env("AWS_SECRET_ACCESS_KEY", key("secret_access_key"))
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            // Some versions choose a checksum that is slow in the sandbox's S3 only.
            .env("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_SESSION_TOKEN")
            .stdin(compress.stdout.take().ok_or("zstd has no output")?)
            .stdout(Stdio::null())
            .spawn()?;
        for (name, child) in [
            ("redis-cli", &mut dump),
            ("zstd", &mut compress),
            (self.name.as_str(), &mut upload),
        ] {
            let status = child.wait()?;
            if !status.success() {
                return Err(format!("{name} ended with {status}").into());
            }
        }
        Ok(begun.elapsed().as_secs_f64())
    }
}

/// Returns a command with a time limit and the agent's low priority.
fn bounded(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args([LONGEST, "nice", "-n", "5", program]);
    command
}
