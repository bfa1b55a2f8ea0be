//! Translates between JSON over HTTP and the model's values and refusals.

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use crate::platform::model::Refusal;

pub(super) type Answer<T = Response> = Result<T, Refusal>;

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, axum::Json(self)).into_response()
    }
}

/// Reads a request's body, whatever content type it has: clients differ there. No body is `{}`.
pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Answer<T> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("The request's body is not right: {error}")))
}
