//! Sends requests, with paging and waiting. Distinguishes a refusal from a lost answer.

use crate::effects::fault;
use crate::effects::http;
use crate::effects::wait::Pauses;
use crate::model::clock::Instant;
use crate::model::error::{Doing, Error, Result};
use crate::model::secret::Secret;
use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RANGE};
use reqwest::{Client, Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;
use zeroize::Zeroizing;

/// Time limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to repeat a request while the platform is out of reach or limits its rate. An account
/// gets back about 75 requests a minute, which is enough for the few of a cutover.
const PATIENCE: Duration = Duration::from_secs(60);
const ACCEPT_VALUE: &str = "application/vnd.heroku+json; version=3";
/// How often a change is sent whose answers are lost.
const MOST_SENT: usize = 3;
/// A server with a longer list sends the same pages again.
const MOST_PAGES: usize = 100;
/// Time limit of a list.
const LIST_TIMEOUT: Duration = Duration::from_secs(180);
/// A page has at most a thousand entries of about a kilobyte, and the vars of an app have 64 KiB.
const LONGEST_REPLY: usize = 4 << 20;
/// Limit of all pages of a list together.
const LONGEST_LIST: usize = 16 << 20;
/// A refusal holds two texts.
const LONGEST_REFUSAL: usize = 64 << 10;
/// Only the end of a log is useful.
const LONGEST_LOG: usize = 1 << 20;
/// How long to read a log that does not end. It begins with what is there.
const STREAMED: Duration = Duration::from_secs(4);

#[derive(Clone)]
pub(super) struct Http {
    client: Client,
    base: String,
    key: Secret,
}

/// The outcome of a request that changes something.
pub(super) enum Changed {
    Done(Value),
    /// The platform refused, so nothing has changed.
    Refused(Refusal),
    /// The answer was lost, so the change may have happened or not.
    Unclear(Error),
}

/// A reply of 4xx with the platform's own text.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    pub id: String,
    pub message: String,
}

#[derive(Default, Deserialize)]
struct ErrorReply {
    #[serde(default)]
    id: String,
    #[serde(default)]
    message: String,
}

struct Page<T> {
    items: Vec<T>,
    bytes: usize,
    next: Option<HeaderValue>,
}

impl Http {
    pub(super) fn new(base: &str, key: Secret) -> Result<Self> {
        let base = base.trim().trim_end_matches('/').to_string();
        let url = reqwest::Url::parse(&base).map_err(|error| {
            Error::usage(format!("use {base:?} as the platform's address"))
                .because(error)
                .hint("HEROKU_API_URL is an address such as https://api.example.com; leave it out for the public one")
        })?;
        if !http::is_safe(&url) {
            return Err(
                Error::usage(format!("send the platform's key to {base}: it is not https"))
                    .hint("plain http is accepted only for an IP address, as the sandbox uses"),
            );
        }
        let client = http::client(REQUEST_TIMEOUT, Duration::from_secs(10), true)
            .map_err(|error| error.while_doing("set up the client of the platform"))?;
        Ok(Http { client, base, key })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, doing: &str) -> Result<T> {
        parsed(
            self.read(path, None, doing)
                .await?
                .map_err(|refusal| refusal.error(doing))?,
            path,
            doing,
        )
        .await
    }

    /// Reads one resource that may not exist.
    pub(super) async fn find<T: DeserializeOwned>(&self, path: &str, doing: &str) -> Result<Option<T>> {
        match self.read(path, None, doing).await? {
            Ok(response) => parsed(response, path, doing).await.map(Some),
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => Ok(None),
            Err(refusal) => Err(refusal.error(doing)),
        }
    }

    /// Reads one resource that may not exist or that the key may not see.
    pub(super) async fn find_allowed<T: DeserializeOwned>(&self, path: &str, doing: &str) -> Result<Option<T>> {
        match self.read(path, None, doing).await? {
            Ok(response) => parsed(response, path, doing).await.map(Some),
            Err(refusal) if matches!(refusal.status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN) => Ok(None),
            Err(refusal) => Err(refusal.error(doing)),
        }
    }

    /// Reads a list to its end, page by page.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str, doing: &str) -> Result<Vec<T>> {
        let mut items = Vec::new();
        let (mut range, mut bytes) = (None, 0);
        let end = Instant::now().after(LIST_TIMEOUT);
        for _ in 0..MOST_PAGES {
            let page = self.page(path, range, doing).await?;
            items.extend(page.items);
            bytes += page.bytes;
            match page.next {
                Some(_) if bytes > LONGEST_LIST || end.has_passed() => break,
                Some(next) => range = Some(next),
                None => return Ok(items),
            }
        }
        Err(Error::failed(format!("{doing}: {path} has no end"))
            .because(format!("{} entries in {bytes} bytes, and more to come", items.len())))
    }

    /// Reads the first page in the order of `range`; the whole list if the server orders otherwise.
    pub(super) async fn newest<T: DeserializeOwned>(
        &self,
        path: &str,
        range: &'static str,
        is_newest_first: impl Fn(&[T]) -> bool,
        doing: &str,
    ) -> Result<Vec<T>> {
        let page = self.page(path, Some(HeaderValue::from_static(range)), doing).await?;
        if page.next.is_none() || is_newest_first(&page.items) {
            return Ok(page.items);
        }
        self.list(path, doing).await
    }

    async fn page<T: DeserializeOwned>(&self, path: &str, range: Option<HeaderValue>, doing: &str) -> Result<Page<T>> {
        let response = self
            .read(path, range, doing)
            .await?
            .map_err(|refusal| refusal.error(doing))?;
        let next = match response.status() {
            StatusCode::PARTIAL_CONTENT => response.headers().get("next-range").cloned(),
            _ => None,
        };
        let body = http::body(response, LONGEST_REPLY).await.doing(|| doing.into())?;
        Ok(Page {
            items: understood(&body, path, doing)?,
            bytes: body.len(),
            next,
        })
    }

    /// Sends a change. Repeats it only if it was not taken: no connection, or too many requests.
    pub(super) async fn change(&self, method: &str, path: &str, body: Option<Value>) -> Changed {
        self.exchange(method, path, body.map(|body| Bytes::from(body.to_string())))
            .await
    }

    /// Makes a change. Sends it again if its answer was lost and `is_made` does not find it made.
    /// To delete what is gone already is no error.
    pub(super) async fn make<Made: Future<Output = Result<bool>>>(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        doing: &str,
        is_made: impl Fn() -> Made,
    ) -> Result<()> {
        let mut lost = None;
        for _ in 0..MOST_SENT {
            match self.change(method, path, body.clone()).await {
                Changed::Done(_) => return Ok(()),
                Changed::Refused(refusal) if method == "DELETE" && refusal.status == StatusCode::NOT_FOUND => {
                    return Ok(());
                }
                Changed::Refused(refusal) => return Err(refused(&refusal, doing, lost)),
                Changed::Unclear(_) if is_made().await? => return Ok(()),
                Changed::Unclear(cause) => lost = Some(cause),
            }
        }
        Err(not_taken(doing, lost))
    }

    /// As `change`, with a body that holds secrets and is wiped once it is sent.
    pub(super) async fn change_secretly(&self, method: &str, path: &str, body: Zeroizing<Vec<u8>>) -> Changed {
        self.exchange(method, path, Some(Bytes::from_owner(body))).await
    }

    async fn exchange(&self, method: &str, path: &str, body: Option<Bytes>) -> Changed {
        let method = match method {
            "POST" => Method::POST,
            "DELETE" => Method::DELETE,
            _ => Method::PATCH,
        };
        let mut pauses = pauses();
        loop {
            let sending = self.send(&method, path, None, body.clone());
            let sent = fault::around(&format!("{method} {path}"), sending).await;
            let failure = match sent {
                Ok(response) if response.status() == StatusCode::TOO_MANY_REQUESTS => {
                    Changed::Refused(Refusal::read(response).await)
                }
                Ok(response) if response.status().is_server_error() => {
                    return Changed::Unclear(Refusal::read(response).await.error(&format!("{method} {path}")));
                }
                Ok(response) if response.status().is_success() => {
                    let doing = format!("{method} {path}");
                    let body = http::body(response, LONGEST_REPLY).await;
                    return match body.and_then(|body| understood(&body, path, &doing)) {
                        Ok(value) => Changed::Done(value),
                        Err(error) => Changed::Unclear(error.while_doing(doing).hint(OUT_OF_REACH)),
                    };
                }
                Ok(response) => return Changed::Refused(Refusal::read(response).await),
                // Nothing was sent, so only this error is tried again.
                Err(error) if error.is_connect() => Changed::Unclear(lost(&format!("{method} {path}"), error)),
                Err(error) => return Changed::Unclear(lost(&format!("{method} {path}"), error)),
            };
            if !pauses.again().await {
                return failure;
            }
        }
    }

    /// Returns the refusal of a change with an unreadable body, which changes nothing; `None` if it
    /// was not refused or no answer came.
    pub(super) async fn refusal_of_nothing(&self, path: &str) -> Option<Refusal> {
        let request = self
            .client
            .patch(format!("{}{path}", self.base))
            .header(ACCEPT, ACCEPT_VALUE)
            .header(AUTHORIZATION, self.authorization())
            .header(CONTENT_TYPE, "application/json")
            .body("{");
        match request.send().await {
            Ok(response) if response.status().is_client_error() => Some(Refusal::read(response).await),
            _ => None,
        }
    }

    /// Returns the text at an address from the platform, such as a log's; empty if there is none.
    /// Reads to its end, or until `enough`, or for [`STREAMED`]: a log may have no end. The address
    /// is its own secret, so the key is not sent.
    pub(super) async fn text_at(&self, url: &str, enough: impl Fn(&str) -> bool) -> String {
        let Ok(url) = reqwest::Url::parse(url) else {
            return String::new();
        };
        if !http::is_safe(&url) {
            return String::new();
        }
        let mut text = Vec::new();
        let reading = async {
            let Ok(mut response) = self.client.get(url).send().await else {
                return;
            };
            if !response.status().is_success() {
                return;
            }
            while let Ok(Some(chunk)) = response.chunk().await {
                let room = LONGEST_LOG.saturating_sub(text.len());
                text.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if text.len() >= LONGEST_LOG || enough(&String::from_utf8_lossy(&text)) {
                    return;
                }
            }
        };
        // The part that came in time is of use without the rest.
        let _ = tokio::time::timeout(STREAMED, reading).await;
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Asks until there is an answer. The inner error is the platform's refusal.
    async fn read(
        &self,
        path: &str,
        range: Option<HeaderValue>,
        doing: &str,
    ) -> Result<std::result::Result<Response, Refusal>> {
        let mut pauses = pauses();
        loop {
            let failure = match self.send(&Method::GET, path, range.as_ref(), None).await {
                Ok(response) if response.status().is_success() => return Ok(Ok(response)),
                Ok(response) => {
                    let refusal = Refusal::read(response).await;
                    if refusal.status != StatusCode::TOO_MANY_REQUESTS && !refusal.status.is_server_error() {
                        return Ok(Err(refusal));
                    }
                    refusal.error(doing)
                }
                Err(error) => lost(doing, error),
            };
            if !pauses.again().await {
                return Err(failure);
            }
        }
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        range: Option<&HeaderValue>,
        body: Option<Bytes>,
    ) -> reqwest::Result<Response> {
        tracing::debug!("platform: {method} {path}");
        let mut request = self
            .client
            .request(method.clone(), format!("{}{path}", self.base))
            .header(ACCEPT, ACCEPT_VALUE)
            .header(AUTHORIZATION, self.authorization());
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        request.send().await
    }

    fn authorization(&self) -> HeaderValue {
        // A key with control characters cannot be sent; the platform's 401 explains it better.
        let bearer = Zeroizing::new(format!("Bearer {}", self.key.expose()));
        let mut value = HeaderValue::from_str(&bearer).unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
        value.set_sensitive(true);
        value
    }
}

fn pauses() -> Pauses {
    Pauses::growing(PATIENCE, Duration::from_millis(200), 2.0, Duration::from_secs(5))
}

impl Refusal {
    async fn read(response: Response) -> Self {
        let status = response.status();
        let body = http::body(response, LONGEST_REFUSAL).await.unwrap_or_default();
        let reply: ErrorReply = serde_json::from_slice(&body).unwrap_or_default();
        Refusal {
            status,
            id: reply.id.chars().take(60).collect(),
            message: reply.message.chars().take(300).collect(),
        }
    }

    /// Returns true if any change of the app would be refused: wrong key, overdue account, missing
    /// rights, an app that is gone, suspended or locked, or an account that must be verified first.
    pub(super) fn is_about_the_account(&self) -> bool {
        match self.status.as_u16() {
            401..=404 | 410 | 423 => true,
            _ => self.id == "verification_needed",
        }
    }

    pub(super) fn error(&self, doing: &str) -> Error {
        let said = match (self.message.is_empty(), self.id.is_empty()) {
            (true, true) => self.status.to_string(),
            (true, false) => format!("{} {}", self.status.as_u16(), self.id),
            _ => format!("{} {} {}", self.status.as_u16(), self.id, self.message),
        };
        let error = Error::failed(format!("{doing}: the platform answered {said}"));
        match self.hint() {
            "" => error,
            hint => error.hint(hint),
        }
    }

    fn hint(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "HEROKU_API_KEY is not accepted: `heroku authorizations:create` makes a new one",
            402 => "the account is overdue: see its billing page",
            403 if self.id == "two_factor" => {
                "the key needs a second factor: use an authorization made with `heroku authorizations:create`"
            }
            403 if self.id == "suspended" => {
                "the app or its account is suspended: see what the platform wrote about it"
            }
            403 => "the key may not do this: use one of a collaborator who may deploy and manage the app",
            404 => "see that `app.name` in infra.yml is the app's name, and that the key's account can see it",
            409 => "another change is under way: wait for it and run the same command again",
            423 => "the app is locked: join it, or have an administrator of its team unlock it",
            422 if self.id == "verification_needed" => "the platform wants the account verified first",
            429 => "the account's requests are used up: wait a minute and run the same command again",
            500.. => "see the platform's status page, then run the same command again",
            _ => "",
        }
    }
}

/// Returns the error of a refused change. If an earlier answer was lost, that first request may
/// still be carried out.
pub(super) fn refused(refusal: &Refusal, doing: &str, lost: Option<Error>) -> Error {
    match lost {
        None => refusal.error(doing).with_nothing_changed(),
        Some(_) => Error::failed(format!(
            "{doing}: whether the platform took the change is not known; asked again, it answered {} {} {}",
            refusal.status.as_u16(),
            refusal.id,
            refusal.message
        ))
        .hint("look at the app on the platform, then run the same command again"),
    }
}

/// Returns the error of a change that was requested several times and is not there.
pub(super) fn not_taken(doing: &str, lost: Option<Error>) -> Error {
    let error = Error::failed(format!("{doing}: the platform did not take the change"))
        .hint("see the platform's status page, then run the same command again");
    match lost {
        Some(cause) => error.because(cause),
        None => error,
    }
}

async fn parsed<T: DeserializeOwned>(response: Response, path: &str, doing: &str) -> Result<T> {
    let body = http::body(response, LONGEST_REPLY).await.doing(|| doing.into())?;
    understood(&body, path, doing)
}

/// Parses a reply. Errors name only the place: the parser's text may quote a URL with a password.
fn understood<T: DeserializeOwned>(body: &[u8], path: &str, doing: &str) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        Error::failed(format!("{doing}: the reply of {path} is not what it should be")).because(format!(
            "{:?} at line {}, column {}",
            error.classify(),
            error.line(),
            error.column()
        ))
    })
}

const OUT_OF_REACH: &str = "see whether the platform's API can be reached from here, then run the same command again";

fn lost(doing: &str, error: reqwest::Error) -> Error {
    Error::failed(doing.to_string()).because(error).hint(OUT_OF_REACH)
}
