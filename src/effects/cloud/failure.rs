//! Turns answers of AWS into errors: the action, what was found, what to try.

use crate::model::cloud::Permission;
use crate::model::error::{Error, Result};
use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::error::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use std::error::Error as StdError;

/// The longest answer to show, since some contain kilobytes of encoded policy.
const LONGEST: usize = 400;

pub(crate) trait Explain<T> {
    /// `permission` is the one that the call needs; `what` fits after "cannot".
    fn explain(self, permission: Permission, what: impl FnOnce() -> String) -> Result<T>;

    /// As `explain`, but returns `None` if AWS answers with one of these codes.
    fn explain_unless(self, codes: &[&str], permission: Permission, what: impl FnOnce() -> String)
    -> Result<Option<T>>;
}

impl<T, E> Explain<T> for Result<T, SdkError<E, HttpResponse>>
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    fn explain(self, permission: Permission, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| explained(&error, permission, what()))
    }

    fn explain_unless(
        self,
        codes: &[&str],
        permission: Permission,
        what: impl FnOnce() -> String,
    ) -> Result<Option<T>> {
        match self {
            Err(error) if codes.contains(&code(&error)) => Ok(None),
            answer => answer.explain(permission, what).map(Some),
        }
    }
}

/// EC2's names for a security group that is not there, or not seen yet: which call answers which is not documented.
pub(crate) const NO_GROUP: [&str; 3] = [
    "InvalidGroup.NotFound",
    "InvalidGroupId.NotFound",
    "InvalidSecurityGroupID.NotFound",
];
/// As `NO_GROUP`, for an elastic address.
pub(crate) const NO_ADDRESS: [&str; 3] = [
    "InvalidAllocationID.NotFound",
    "InvalidAddressID.NotFound",
    "InvalidAddress.NotFound",
];

/// Returns AWS's code of an error, such as `InvalidInstanceID.NotFound`; empty if there is none.
pub(crate) fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> &str {
    error.as_service_error().and_then(|e| e.code()).unwrap_or_default()
}

/// Returns the HTTP status of the answer; zero if there was none.
pub(crate) fn status<E>(error: &SdkError<E, HttpResponse>) -> u16 {
    error.raw_response().map_or(0, |response| response.status().as_u16())
}

pub(crate) fn explained<E>(error: &SdkError<E, HttpResponse>, permission: Permission, what: String) -> Error
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let action = permission.action();
    let Some(service) = error.as_service_error() else {
        return unanswered(error, what);
    };
    let status = status(error);
    let code = service.code().unwrap_or_default();
    let said = match (code, service.message()) {
        ("", None) => match causes(error).last() {
            Some(cause) => format!(
                "{action} answered HTTP {status}, and not what AWS would: {}",
                shortened(cause)
            ),
            None => format!("{action} answered HTTP {status} without saying why"),
        },
        (code, None) => format!("{action} answered {code}"),
        ("", Some(message)) => format!("{action} answered HTTP {status}: {}", shortened(message)),
        (code, Some(message)) => format!("{action} answered {code}: {}", shortened(message)),
    };
    let failed = Error::failed(what).because(said);
    match hint(action, code, status) {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}

/// Returns the error for an answer that no client of AWS's SDK has read.
pub(crate) fn refused(permission: Permission, status: u16, code: &str, message: &str, what: String) -> Error {
    let action = permission.action();
    let failed = Error::failed(what).because(match code {
        "" => format!("{action} answered HTTP {status}, and not what AWS would"),
        code => format!("{action} answered {code}: {}", shortened(message)),
    });
    match hint(action, code, status) {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}

/// Returns true if AWS answers with this code to a caller without the right.
pub(crate) fn is_denied(code: &str) -> bool {
    let denied = [
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "Forbidden",
        "AllAccessDisabled",
    ];
    denied.contains(&code)
}

fn hint(action: &str, code: &str, status: u16) -> Option<String> {
    Some(match code {
        _ if is_denied(code) => {
            format!("allow `{action}` to the credentials in use; `aws sts get-caller-identity` tells whose they are")
        }
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            "log in to AWS again: the session has ended, or this computer's clock is wrong".into()
        }
        "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "AuthFailure"
        | "UnrecognizedClientException"
        | "IncompleteSignature"
        | "InvalidToken" => {
            "AWS does not accept these credentials: set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to \
             ones that belong to this account and endpoint"
                .into()
        }
        "RequestLimitExceeded" | "Throttling" | "ThrottlingException" | "SlowDown" | "TooManyRequestsException" => {
            "AWS is limiting the rate of calls of this account: run the same command again in a minute".into()
        }
        "VcpuLimitExceeded" | "InstanceLimitExceeded" | "AddressLimitExceeded" => {
            "the account's quota is used up: ask AWS for more in Service Quotas, or remove what is not needed".into()
        }
        "InsufficientInstanceCapacity" if action == "ec2:StartInstances" => {
            "the zone has no room for this instance type now: run the same command again later, or take another type with `infra resize --type TYPE`".into()
        }
        "InsufficientInstanceCapacity" | "Unsupported" => {
            "name other zones in `hosts.zones`, or another `hosts.instance_type`".into()
        }
        "OptInRequired" => "the region or the image must be enabled for this account first".into(),
        "NoSuchBucket" => "run `infra up` first: it makes the bucket".into(),
        _ if status == 403 => {
            format!("allow `{action}` to the credentials in use; `aws sts get-caller-identity` tells whose they are")
        }
        _ => return None,
    })
}

/// Returns the error for a missing answer: nobody there, too slow, no credentials, not understood.
fn unanswered<E>(error: &SdkError<E, HttpResponse>, what: String) -> Error
where
    E: StdError + 'static,
{
    let chain = causes(error);
    let said = match chain.last() {
        Some(root) => root.clone(),
        None => error.to_string(),
    };
    let all = chain.join(": ");
    let failed = Error::failed(what).because(shortened(&all));
    if all.contains("credential") || all.contains("identity") {
        return failed.hint(
            "log in to AWS: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws login`",
        );
    }
    match error {
        SdkError::TimeoutError(_) => {
            failed.hint("AWS did not answer in time: check the network, then run the same command again")
        }
        SdkError::DispatchFailure(_) => failed.hint(format!(
            "check the network and, where one is set, AWS_ENDPOINT_URL ({})",
            shortened(&said)
        )),
        SdkError::ResponseError(_) => {
            failed.hint("the answer was cut off or is not AWS's: check AWS_ENDPOINT_URL, then try again")
        }
        _ => failed,
    }
}

/// Returns the messages below an error that says nothing itself ("dispatch failure").
fn causes(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        if !line.is_empty() && lines.last().is_none_or(|last| !last.contains(&line)) {
            lines.push(line);
        }
        cause = error.source();
    }
    if lines.is_empty() {
        lines.push(error.to_string());
    }
    lines
}

fn shortened(text: &str) -> String {
    let text = text
        .split("Encoded authorization failure message")
        .next()
        .unwrap_or(text)
        .trim();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_action_that_must_be_allowed() {
        let text = hint("ec2:RunInstances", "UnauthorizedOperation", 403).unwrap();
        assert!(text.contains("`ec2:RunInstances`"), "{text}");
        assert!(hint("ec2:RunInstances", "InvalidParameterValue", 400).is_none());
    }

    #[test]
    fn a_zone_without_room_has_another_remedy_for_a_host_that_stands_there() {
        let remedy = |action| hint(action, "InsufficientInstanceCapacity", 500).unwrap();
        assert!(remedy("ec2:RunInstances").contains("hosts.zones"));
        assert!(remedy("ec2:StartInstances").contains("infra resize"));
    }

    #[test]
    fn encoded_policies_are_not_shown() {
        let shown = shortened("You are not authorized. Encoded authorization failure message: AAAA");
        assert_eq!(shown, "You are not authorized.");
        assert!(shortened(&"é".repeat(1000)).ends_with('…'));
    }
}
