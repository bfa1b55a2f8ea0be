//! Finds out whether a server knows the user of its URL.
//!
//! Some providers write a user into their URLs that their servers do not have, such as `h` or `x`,
//! because apps of old sent the password alone.

use super::bare::Bare;
use super::server::Server;
use crate::model::error::Kind;

/// Returns the server without its user if it refuses that user and takes the password alone. A
/// server that cannot be asked is returned as it is: whoever uses it next reports the reason.
pub async fn with_known_user(server: Server) -> Server {
    if server.login_user().is_none() || server.password.is_none() {
        return server;
    }
    let alone = Server {
        user: None,
        ..server.clone()
    };
    if is_refused(&server).await == Some(true) && is_refused(&alone).await == Some(false) {
        alone
    } else {
        server
    }
}

/// Returns true if the server answers and refuses the login; `None` if it does not answer.
async fn is_refused(server: &Server) -> Option<bool> {
    match Bare::open(server, format!("log in to {server}")).await {
        Ok(_) => Some(false),
        Err(error) if error.kind() == Kind::Unproven => Some(true),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::redis::testing::TestServer;
    use crate::model::secret::Secret;
    use ::redis::cmd;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn user_in_use(server: &TestServer, user_and_password: &str) -> (Option<String>, bool) {
        let url = Secret::new(format!("redis://{user_and_password}@127.0.0.1:{}", server.port));
        let server = with_known_user(Server::from_url("source", &url, None).unwrap()).await;
        let answers = match server.connect(0).await {
            Ok(mut connection) => connection.query::<String>(&cmd("PING")).await.is_ok(),
            Err(_) => false,
        };
        (server.login_user().map(str::to_string), answers)
    }

    #[tokio::test]
    async fn a_user_that_the_server_does_not_have_is_left_out() {
        let server = TestServer::start(&["--requirepass", "p@ss/w:rd#?%"]).await;
        let password = "p%40ss%2Fw%3Ard%23%3F%25";
        server.script("ACL SETUSER known on >other ~* &* +@all").await;
        let said = |user: Option<&str>, answers| (user.map(str::to_string), answers);
        for (login, expected) in [
            (format!("h:{password}"), said(None, true)),
            (format!("x:{password}"), said(None, true)),
            (format!("default:{password}"), said(None, true)),
            (format!(":{password}"), said(None, true)),
            ("known:other".into(), said(Some("known"), true)),
            ("k%6Eown:%6Fther".into(), said(Some("known"), true)),
            ("known:wrong".into(), said(Some("known"), false)),
        ] {
            assert_eq!(user_in_use(&server, &login).await, expected, "{login}");
        }
    }

    #[tokio::test]
    async fn an_empty_password_is_none() {
        let server = TestServer::start(&[]).await;
        for login in ["h:", "default:", ":", "h"] {
            assert!(user_in_use(&server, login).await.1, "{login}");
        }
    }

    /// Answers AUTH as Redis 5 does, which knows no users.
    async fn redis_5() -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut words = vec![0; 200];
                let read = client.read(&mut words).await.unwrap();
                let answer: &[u8] = if words[..read].starts_with(b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n") {
                    b"+OK\r\n"
                } else {
                    b"-ERR wrong number of arguments for 'auth' command\r\n"
                };
                client.write_all(answer).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn a_server_without_users_gets_the_password_alone() {
        let port = redis_5().await;
        for user in ["h", "x", "default"] {
            let url = Secret::new(format!("redis://{user}:pw@127.0.0.1:{port}"));
            let server = with_known_user(Server::from_url("source", &url, None).unwrap()).await;
            assert_eq!(server.login_user(), None, "{user}");
            Bare::open(&server, "log in".into()).await.unwrap();
        }
    }
}
