//! Logs: sessions, as the platform gives them out, and a shortcut for tests.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::answers::{Answer, read as read_body};
use crate::platform::Server;
use crate::platform::logs::{self, Selection};
use crate::platform::model::Refusal;

type Shared = State<Arc<Server>>;

/// Returns a URL under which the lines are read. It serves what is there at that moment and follows
/// nothing, so ask again.
pub(super) async fn open(
    State(server): Shared,
    Path(app): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<(StatusCode, Json<Value>)> {
    let selection: Selection = read_body(&body)?;
    let app = {
        let platform = server.platform();
        let app = platform.app(&app)?;
        if app.behaviour.logs.endless && selection.lines.is_some() {
            return Err(Refusal::invalid("This app's logs know no number of lines"));
        }
        app.name.clone()
    };
    let secret =
        crate::random::hex(16).map_err(|error| Refusal::new(500, "internal_server_error", format!("{error:#}")))?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.ok_or_else(|| Refusal::bad_request("The request has no Host header"))?;
    let url = format!("http://{host}/_logs/{secret}");
    server.log_sessions.add(secret, app, selection);
    let now = Timestamp::now();
    let session = json!({
        "id": uuid::Uuid::from_u64_pair(6, 1), "logplex_url": url, "created_at": now, "updated_at": now,
    });
    Ok((StatusCode::CREATED, Json(session)))
}

/// Needs no key: the URL is the secret.
pub(super) async fn read(State(server): Shared, Path(secret): Path<String>) -> Answer<Body> {
    let session = server.log_sessions.get(&secret);
    let (app, selection) = session.ok_or_else(|| Refusal::not_found("log session"))?;
    let platform = server.platform();
    let app = platform.app(&app)?;
    let lines = logs::read(&server, &platform, app, &selection);
    Ok(if app.behaviour.logs.endless {
        endless(lines)
    } else {
        Body::from(lines)
    })
}

/// Returns a body that stays open behind these lines for as long as its reader does.
fn endless(lines: String) -> Body {
    let (reader, mut writer) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        let mut next = lines.into_bytes();
        // A reader that has gone ends it.
        while writer.write_all(&next).await.is_ok() {
            next = b"\n".to_vec();
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    });
    Body::from_stream(tokio_util::io::ReaderStream::new(reader))
}

/// Returns a dyno's file as it is.
pub(super) async fn of_dyno(State(server): Shared, Path((app, dyno)): Path<(String, String)>) -> Answer<String> {
    let name = {
        let platform = server.platform();
        let app = platform.app(&app)?;
        let known = platform
            .dynos
            .iter()
            .any(|item| item.app == app.id && item.name == dyno);
        // Only names that the platform gave are read, and nothing else on the disk.
        known
            .then(|| app.name.clone())
            .ok_or_else(|| Refusal::not_found("dyno"))?
    };
    let bytes = std::fs::read(logs::file(&server.options.state_dir, &name, &dyno)).unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
