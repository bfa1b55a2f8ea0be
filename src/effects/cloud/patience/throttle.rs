//! An HTTP client that repeats a request that AWS refuses because there were too many.
//!
//! It stands below the SDK, which tries three times within seconds; AWS may throttle for longer.

use super::FIRST_PAUSE;
use super::shown::Shown;
use crate::effects::wait::{Look, Wait};
use crate::ui::Ui;
use aws_sdk_sts::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a call may be refused for coming too fast.
const PATIENCE: Duration = Duration::from_secs(60);
/// The names of such refusals.
const TOO_MANY: [&str; 8] = [
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
    "EC2ThrottledException",
];

/// The HTTP client of all services.
pub(in crate::effects::cloud) struct Repeating {
    inner: SharedHttpClient,
    shown: Shown,
}

impl Repeating {
    pub fn over(inner: SharedHttpClient, ui: &Ui) -> SharedHttpClient {
        SharedHttpClient::new(Repeating {
            inner,
            shown: Shown::new(
                ui,
                "AWS limits the rate of calls",
                "the calls that it had refused are over",
            ),
        })
    }
}

impl fmt::Debug for Repeating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repeating({:?})", self.inner)
    }
}

impl HttpClient for Repeating {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector {
            inner: self.inner.http_connector(settings, components),
            shown: self.shown.clone(),
        })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.inner.connector_metadata()
    }
}

#[derive(Clone)]
struct Connector {
    inner: SharedHttpConnector,
    shown: Shown,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector({:?})", self.inner)
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let again = request.try_clone().filter(is_first);
        let first = self.inner.call(request);
        let Some(again) = again else { return first };
        let connector = self.clone();
        HttpConnectorFuture::new(async move {
            match refusal(first.await?).await? {
                (response, None) => Ok(response),
                (refused, Some(_)) => connector.repeat(again, refused).await,
            }
        })
    }
}

impl Connector {
    /// Returns the first answer that is another one, or the last refusal once the time is over.
    async fn repeat(self, request: HttpRequest, refused: HttpResponse) -> Result<HttpResponse, ConnectorError> {
        let waiting = self.shown.begin();
        let mut wait = Wait::new("AWS to take a call", PATIENCE, "run the same command again in a minute");
        wait.first_pause = FIRST_PAUSE;
        tokio::time::sleep(FIRST_PAUSE).await;
        let last = Arc::new(Mutex::new(Some(refused)));
        let (kept, inner) = (last.clone(), self.inner);
        let answer = wait.until(&waiting.step, move || {
            let sent = request.try_clone().map(|request| inner.call(request));
            let kept = kept.clone();
            async move {
                let Some(sent) = sent else { return Ok(Look::Ready(None)) };
                let answer = match sent.await {
                    Ok(response) => refusal(response).await,
                    Err(error) => Err(error),
                };
                Ok(match answer {
                    Ok((refused, Some(name))) => {
                        *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
                        Look::NotYet(format!("it answers {name}"))
                    }
                    Ok((response, None)) => Look::Ready(Some(Ok(response))),
                    Err(error) => Look::Ready(Some(Err(error))),
                })
            }
        });
        let answer = answer.await;
        let refused = || last.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (answer, refused()) {
            (Ok(Some(answer)), _) => answer,
            // The SDK reads the refusal's name from it.
            (_, Some(refused)) => Ok(refused),
            (Ok(None), None) => Err(ConnectorError::other("no request to repeat".into(), None)),
            (Err(error), None) => Err(ConnectorError::other(Box::new(error), None)),
        }
    }
}

/// Returns true for the SDK's first attempt: its own repetitions come after this patience is over.
fn is_first(request: &HttpRequest) -> bool {
    let info = request.headers().get("amz-sdk-request").unwrap_or_default();
    let attempt = info.split("; ").find_map(|pair| pair.strip_prefix("attempt="));
    attempt.is_none_or(|attempt| matches!(attempt, "0" | "1"))
}

/// Returns the response, and the name under which it refuses a call that came too fast.
async fn refusal(mut response: HttpResponse) -> Result<(HttpResponse, Option<String>), ConnectorError> {
    let status = response.status().as_u16();
    if !matches!(status, 400 | 429 | 503) {
        return Ok((response, None));
    }
    let body = ByteStream::new(response.take_body()).collect().await;
    let body = body.map_err(|error| ConnectorError::io(Box::new(error)))?.into_bytes();
    let named = response.headers().get("x-amzn-errortype").map(str::to_string);
    let name = named.or_else(|| name_in(&String::from_utf8_lossy(&body)));
    // An answer to HEAD has no text; S3 refuses one with 503 only for the rate of calls.
    let name = name.or_else(|| (status == 503 && body.is_empty()).then(|| "SlowDown".into()));
    *response.body_mut() = SdkBody::from(body);
    Ok((response, name.filter(|name| TOO_MANY.contains(&name.as_str()))))
}

/// Returns the code of an error in XML or JSON.
fn name_in(body: &str) -> Option<String> {
    if let Some((_, rest)) = body.split_once("<Code>") {
        return rest.split_once("</Code>").map(|(name, _)| name.to_string());
    }
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    let name = json["__type"].as_str()?;
    Some(name.rsplit('#').next().unwrap_or(name).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn named(status: u16, body: &str) -> Option<String> {
        let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
        response.headers_mut().insert("x-amzn-requestid", "1");
        let (response, name) = refusal(response).await.unwrap();
        assert_eq!(response.body().bytes(), Some(body.as_bytes()), "the SDK reads it too");
        name
    }

    #[tokio::test]
    async fn a_refusal_for_the_rate_of_calls_is_known_by_its_name_in_every_form() {
        let ec2 = "<Response><Errors><Error><Code>RequestLimitExceeded</Code></Error></Errors></Response>";
        assert_eq!(named(503, ec2).await.as_deref(), Some("RequestLimitExceeded"));
        let ssm = r#"{"__type":"com.amazonaws#ThrottlingException","message":"x"}"#;
        assert_eq!(named(400, ssm).await.as_deref(), Some("ThrottlingException"));
        assert_eq!(named(503, "").await.as_deref(), Some("SlowDown"));
        assert_eq!(named(400, "").await, None);
        assert_eq!(named(400, "<Error><Code>ExpiredToken</Code></Error>").await, None);
        assert_eq!(named(503, "<Error><Code>InternalError</Code></Error>").await, None);
    }
}
