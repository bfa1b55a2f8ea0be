//! The error answers of the API.

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    #[serde(skip)]
    pub status: u16,
    pub id: String,
    pub message: String,
}

impl Refusal {
    pub fn new(status: u16, id: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            id: id.to_owned(),
            message: message.into(),
        }
    }

    pub fn not_found(thing: &str) -> Self {
        Self::new(404, "not_found", format!("Couldn't find that {thing}."))
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(422, "invalid_params", message)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "bad_request", message)
    }
}
