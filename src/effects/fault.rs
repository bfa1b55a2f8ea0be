//! Points at which a test build can be killed or run a command. In other builds they do nothing.
//!
//! There is a point before and after each effect: requests to cloud and platform, work on a host,
//! steps of a cutover, files. With the feature `fault-points` these variables control them:
//!
//! - `INFRA_FAULT_LOG=FILE`: writes the name of each point that is reached, one per line.
//! - `INFRA_FAULT_AT=N`: kills the process, as `kill -9` does, at the Nth point that it reaches.
//! - `INFRA_FAULT_NEW=FILE`: kills it at the first point whose name is not in the file, and adds
//!   the name. Repeated runs die once at every point.
//! - `INFRA_FAULT_RUN=COMMAND` with `INFRA_FAULT_ON=NAME`: runs the shell command once at that
//!   point.

/// A place before or after an effect.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub fn point(_name: std::fmt::Arguments<'_>) {}

#[cfg(feature = "fault-points")]
pub use points::{Requests, point};

/// Awaits an effect between its two points, `before NAME` and `after NAME`.
pub async fn around<T>(name: &str, effect: impl Future<Output = T>) -> T {
    point(format_args!("before {name}"));
    let done = effect.await;
    point(format_args!("after {name}"));
    done
}

#[cfg(feature = "fault-points")]
mod points {
    use aws_sdk_s3::config::interceptors::{
        BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
    };
    use aws_sdk_s3::config::{Intercept, RuntimeComponents};
    use aws_sdk_s3::error::BoxError;
    use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
    use nix::sys::signal::{Signal, raise};
    use std::io::Write;
    use std::sync::{Mutex, PoisonError};

    /// Points reached, and if the command was run. Locked, so that the log ends where it died.
    static REACHED: Mutex<(u64, bool)> = Mutex::new((0, false));

    pub fn point(name: std::fmt::Arguments<'_>) {
        let name = without_ids(&name.to_string());
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let command = {
            let mut reached = REACHED.lock().unwrap_or_else(PoisonError::into_inner);
            reached.0 += 1;
            if let Some(file) = variable("INFRA_FAULT_LOG") {
                add(&file, &name);
            }
            if let Some(file) = variable("INFRA_FAULT_NEW")
                && !std::fs::read_to_string(&file).is_ok_and(|seen| seen.lines().any(|line| line == name))
            {
                add(&file, &name);
                let _ = raise(Signal::SIGKILL);
            }
            if variable("INFRA_FAULT_AT").and_then(|number| number.parse().ok()) == Some(reached.0) {
                let _ = raise(Signal::SIGKILL);
            }
            let due = !reached.1 && variable("INFRA_FAULT_ON").is_some_and(|on| on == name);
            reached.1 |= due;
            variable("INFRA_FAULT_RUN").filter(|_| due)
        };
        if let Some(command) = command {
            let status = std::process::Command::new("sh").arg("-c").arg(&command).status();
            if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
                eprintln!("the fault at {name:?} ended with {status:?}: {command}");
            }
        }
    }

    fn add(file: &str, line: &str) {
        if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(file) {
            let _ = writeln!(file, "{line}");
        }
    }

    /// Removes the platform's ids, which differ in each run.
    fn without_ids(name: &str) -> String {
        let is_id = |word: &&str| word.len() == 36 && word.bytes().filter(|byte| *byte == b'-').count() == 4;
        let words = name
            .split('/')
            .map(|word| Some(word).filter(|word| !is_id(word)).unwrap_or("ID"));
        words.collect::<Vec<_>>().join("/")
    }

    /// Makes points of all changing requests to AWS; it sees every request of a client.
    #[derive(Debug)]
    pub struct Requests;

    #[derive(Clone, Debug)]
    struct Change(String);

    impl Storable for Change {
        type Storer = StoreReplace<Self>;
    }

    impl Intercept for Requests {
        fn name(&self) -> &'static str {
            "fault points"
        }

        fn read_before_transmit(
            &self,
            context: &BeforeTransmitInterceptorContextRef<'_>,
            _: &RuntimeComponents,
            config: &mut ConfigBag,
        ) -> Result<(), BoxError> {
            let request = context.request();
            let target = request.headers().get("x-amz-target");
            let change = change(request.method(), request.uri(), target, request.body().bytes());
            if let Some(change) = change {
                point(format_args!("before {change}"));
                config.interceptor_state().store_put(Change(change));
            }
            Ok(())
        }

        fn read_before_deserialization(
            &self,
            _: &BeforeDeserializationInterceptorContextRef<'_>,
            _: &RuntimeComponents,
            config: &mut ConfigBag,
        ) -> Result<(), BoxError> {
            if let Some(Change(change)) = config.load::<Change>() {
                point(format_args!("after {change}"));
            }
            Ok(())
        }
    }

    /// Names the change of a request, with the same name in every run; `None` if it only reads.
    fn change(method: &str, uri: &str, target: Option<&str>, body: Option<&[u8]>) -> Option<String> {
        let reads = |operation: &str| {
            ["Describe", "Get", "List"]
                .iter()
                .any(|word| operation.starts_with(word))
        };
        if let Some(target) = target {
            let operation = target.rsplit('.').next().unwrap_or(target);
            // Parameters are named by the part of their name after the environment.
            let body: serde_json::Value = serde_json::from_slice(body.unwrap_or_default()).unwrap_or_default();
            let of = body["Name"]
                .as_str()
                .and_then(|name| name.splitn(5, '/').nth(4))
                .unwrap_or_default();
            return (!reads(operation)).then(|| format!("{operation} {of}").trim_end().to_string());
        }
        let path = uri.split_once("://").map_or(uri, |(_, rest)| rest);
        let path = path.split_once('/').map_or("", |(_, path)| path);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if method == "POST" && path.is_empty() {
            let body = String::from_utf8_lossy(body?).into_owned();
            let operation = body.split('&').find_map(|pair| pair.strip_prefix("Action="))?;
            return (!reads(operation)).then(|| operation.to_string());
        }
        if matches!(method, "GET" | "HEAD") {
            return None;
        }
        // In path style the bucket comes first, and its name does not matter here.
        let key = path.split_once('/').map_or("", |(_, key)| key);
        let operation = query.split('&').find_map(|pair| pair.strip_prefix("x-id="));
        let operation = match operation {
            Some(operation) => operation.to_string(),
            None => format!("{method} {}", query.split(['=', '&']).next().unwrap_or_default()),
        };
        // The name of a journal differs in each run.
        let key = match key.rsplit_once("/journal/") {
            Some((folder, _)) => format!("{folder}/journal"),
            None => key.to_string(),
        };
        Some(format!("{operation} {key}").trim_end().to_string())
    }

    #[cfg(test)]
    mod tests {
        use super::{change, without_ids};

        #[test]
        fn changes_are_named_and_reading_is_not_one() {
            let form = |text: &'static str| change("POST", "http://10.0.0.1:4566/", None, Some(text.as_bytes()));
            assert_eq!(form("Action=RunInstances&Version=1").as_deref(), Some("RunInstances"));
            assert_eq!(form("Action=DescribeInstances&Version=1"), None);
            let body = br#"{"Name":"/infra/demo/production/password/app"}"#;
            let json = |target: &str| change("POST", "http://10.0.0.1:4566/", Some(target), Some(body));
            assert_eq!(
                json("AmazonSSM.PutParameter").as_deref(),
                Some("PutParameter password/app")
            );
            assert_eq!(json("AmazonSSM.GetParametersByPath"), None);
            let object =
                |method: &str, rest: &str| change(method, &format!("http://10.0.0.1:4566/bucket{rest}"), None, None);
            assert_eq!(object("GET", "/state/production/state.json?x-id=GetObject"), None);
            assert_eq!(
                object("PUT", "/state/production/state.json?x-id=PutObject").as_deref(),
                Some("PutObject state/production/state.json")
            );
            assert_eq!(
                object(
                    "PUT",
                    "/state/production/journal/20260101T000000Z-ab.json?x-id=PutObject"
                )
                .as_deref(),
                Some("PutObject state/production/journal")
            );
            assert_eq!(object("PUT", "?versioning").as_deref(), Some("PUT versioning"));
            assert_eq!(object("PUT", "/").as_deref(), Some("PUT"));
            assert_eq!(
                without_ids("before DELETE /a/cdf58047-39b6-46a8-bc60-22319027119b"),
                "before DELETE /a/ID"
            );
        }
    }
}
