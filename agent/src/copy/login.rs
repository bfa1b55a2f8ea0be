//! The logins of the copy at source and target.

/// The name of the copy's connections, as servers list it.
pub const CLIENT_NAME: &str = "infra-copy";

/// The name and password of a user.
#[derive(Clone)]
pub struct Login {
    /// `None` if the server knows only a password.
    pub user: Option<String>,
    pub password: Option<String>,
}
