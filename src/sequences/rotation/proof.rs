//! Asks the hosts what they accept: which passwords a user has there, and whether one logs in.

use crate::effects::redis::Server;
use crate::effects::redis::connection::is_refused_login;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use crate::model::secrets::RedisUser;
use ::redis::{Value, cmd};
use std::collections::BTreeSet;
use wire::reply::{pairs, words};

/// Compares the passwords of a host's user with the wanted ones, and logs in with each if that is
/// possible from here. `admin` is the host's server as its administrator.
pub async fn accepts(admin: &Server, user: RedisUser, passwords: &[&Secret]) -> Result<()> {
    let (is_on, found) = user_of(admin, user).await?;
    let wanted: BTreeSet<String> = passwords
        .iter()
        .map(|password| crate::effects::host::users::digest(password))
        .collect();
    if found != wanted {
        return Err(Error::unproven(format!(
            "show that {admin} accepts {} of the user {user}: it knows {}, and not all are those",
            counted(wanted.len()),
            counted(found.len())
        ))
        .hint("run `infra rotate` again; `infra status` shows drift of the host"));
    }
    if is_on && user.comes_from_anywhere() {
        for password in passwords {
            as_user(admin, user, password).connect(0).await?;
        }
    }
    Ok(())
}

/// Fails if a password is still accepted.
pub async fn refuses(admin: &Server, user: RedisUser, password: &Secret) -> Result<()> {
    let (_, found) = user_of(admin, user).await?;
    if found.contains(&crate::effects::host::users::digest(password)) {
        return Err(still_accepted(admin, user));
    }
    if !user.comes_from_anywhere() {
        return Ok(());
    }
    match as_user(admin, user, password).connect(0).await {
        Ok(_) => Err(still_accepted(admin, user)),
        Err(error) if is_refused_login(&error) => Ok(()),
        Err(error) => Err(error.while_doing(format!("have the old password of {user} refused"))),
    }
}

fn still_accepted(admin: &Server, user: RedisUser) -> Error {
    Error::unproven(format!("have the old password of {user} refused: {admin} accepts it"))
        .hint("run `infra rotate` again")
}

fn as_user(admin: &Server, user: RedisUser, password: &Secret) -> Server {
    Server {
        user: Some(user.name().into()),
        password: Some(password.clone()),
        ..admin.clone()
    }
}

fn counted(number: usize) -> String {
    match number {
        1 => "one password".into(),
        number => format!("{number} passwords"),
    }
}

/// Returns whether the user may log in at all, and the SHA-256 of its passwords.
async fn user_of(admin: &Server, user: RedisUser) -> Result<(bool, BTreeSet<String>)> {
    let mut connection = admin.connect(0).await?;
    let answer = connection.ask(cmd("ACL").arg("GETUSER").arg(user.name())).await?;
    read_user(answer).ok_or_else(|| {
        Error::failed(format!(
            "read what {admin} knows of the user {user}: it knows nobody of that name"
        ))
        .hint("run `infra up`: it makes the users that are missing")
    })
}

fn read_user(answer: Value) -> Option<(bool, BTreeSet<String>)> {
    let mut fields = pairs(answer)?;
    let mut field = |name: &str| words(fields.remove(name)?);
    let is_on = field("flags")?.iter().any(|flag| flag == "on");
    Some((is_on, field("passwords")?.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::redis::testing::TestServer;
    use crate::model::error::Kind;

    #[tokio::test]
    async fn a_surplus_password_and_a_missing_one_are_both_found() {
        let server = TestServer::start(&[]).await;
        let admin = server.server();
        let (old, new) = (Secret::new("old"), Secret::new("new"));
        for user in [RedisUser::Monitoring, RedisUser::Backup] {
            server
                .script(&format!("ACL SETUSER {user} on >old >new resetkeys -@all +ping"))
                .await;
            accepts(&admin, user, &[&old, &new]).await.unwrap();
            let error = accepts(&admin, user, &[&new]).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Unproven);
            assert_eq!(refuses(&admin, user, &old).await.unwrap_err().kind(), Kind::Unproven);

            server.script(&format!("ACL SETUSER {user} <old")).await;
            accepts(&admin, user, &[&new]).await.unwrap();
            refuses(&admin, user, &old).await.unwrap();
        }
        assert!(accepts(&admin, RedisUser::Replication, &[&new]).await.is_err());
    }
}
