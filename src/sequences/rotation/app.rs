//! The app's side: it gets the new password, its processes are replaced, and the old ones are gone.

use crate::decide::vars::place;
use crate::effects::platform::{ConfigVars, Platform, ReleaseStatus, not_waited_for};
use crate::effects::redis::control::Client;
use crate::effects::redis::{Server, control};
use crate::effects::wait::{Look, Wait};
use crate::model::error::{Error, Result};
use crate::model::rotation::ConnectionMark;
use crate::model::secret::Secret;
use crate::model::secrets::RedisUser;
use crate::ui::Step;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time limit of a release, and after it of the processes that run it.
    pub release: Duration,
    /// Time that a process which was asked to stop may live on unseen.
    pub grace: Duration,
    /// Time limit for other clients with the old password to disconnect.
    pub leaving: Duration,
}

/// Returns the vars that log in to one of `endpoints` as the user `app`, with the new password.
pub fn renewed(vars: &ConfigVars, endpoints: &[String], password: &Secret) -> BTreeMap<String, Option<Secret>> {
    let renew = |value: &Secret| {
        let (host, _, _) = place(value)?;
        let mut url = reqwest::Url::parse(value.expose().trim()).ok()?;
        if url.username() != RedisUser::App.name() || !endpoints.contains(&host) {
            return None;
        }
        url.set_password(Some(password.expose())).ok()?;
        Some(Secret::new(String::from(url)))
    };
    vars.readable()
        .filter_map(|(name, value)| Some((name.to_string(), Some(renew(value)?))))
        .collect()
}

/// Waits for a release that a dead run may have sent: until it ends the old values still show.
pub async fn settle(app: &Platform, limits: Limits, step: &Step) -> Result<()> {
    if let Some(newest) = app.newest_release().await?
        && !newest.status.is_terminal()
    {
        app.terminal_release(newest.version - 1, limits.release, step).await?;
    }
    Ok(())
}

/// Returns true if the app has the wanted vars already.
pub async fn knows(app: &Platform, wanted: &BTreeMap<String, Option<Secret>>) -> Result<bool> {
    Ok(app.config_vars().await?.agrees_with(wanted))
}

/// Sets the new password, and waits until all visible processes run with it. Returns the release.
pub async fn tell(
    app: &Platform,
    wanted: &BTreeMap<String, Option<Secret>>,
    limits: Limits,
    step: &Step,
) -> Result<u64> {
    let name = app.app_name();
    let crashed = app.crashed().await?;
    let before = match app.set_config_vars(wanted).await? {
        Some(before) => before,
        None => app
            .newest_release()
            .await?
            .map_or(0, |newest| newest.version.saturating_sub(1)),
    };
    let release = app.terminal_release(before, limits.release, step).await?;
    if release.status != ReleaseStatus::Succeeded && !knows(app, wanted).await? {
        return Err(Error::partial(format!(
            "hand app {name} its new password: its release v{} {}",
            release.version, release.status
        ))
        .hint("the app runs on with the old password, and both are accepted; mend the release, then run `infra rotate app` again"));
    }
    app.await_processes(release.version, &crashed, limits.release, step)
        .await?;
    await_one_offs(app, release.version, limits.leaving, step).await?;
    // Processes that were asked to stop are not shown, and may reconnect until they are killed.
    step.update(format!(
        "processes that were asked to stop may live for {} s more{}",
        limits.grace.as_secs(),
        not_waited_for(&crashed)
    ));
    tokio::time::sleep(limits.grace).await;
    Ok(release.version)
}

/// Waits for one-off processes, since they keep the vars that they were started with.
async fn await_one_offs(app: &Platform, release: u64, deadline: Duration, step: &Step) -> Result<()> {
    let Some(heroku) = app.heroku() else {
        return Ok(());
    };
    let what = format!("one-off processes of app {} to end", heroku.app_name());
    let hint = "they were started with the old password: let them end or stop them, then run `infra rotate app` again; until then both are accepted";
    Wait::new(&what, deadline, hint)
        .until(step, || async {
            let dynos = heroku.dynos().await?;
            let old: Vec<String> = dynos
                .into_iter()
                .filter(|dyno| dyno.is_one_off() && dyno.kind != "release" && dyno.release < release)
                .map(|dyno| dyno.name)
                .collect();
            Ok(if old.is_empty() {
                Look::Ready(())
            } else {
                Look::NotYet(format!("{} still run", old.join(", ")))
            })
        })
        .await
}

/// Returns a mark between the server's connections so far and later ones.
pub async fn mark(master: &Server) -> Result<ConnectionMark> {
    let mut connection = master.connect(0).await?;
    let info = connection.info().await?;
    Ok(ConnectionMark {
        run_id: info.run_id,
        connection: control::own_id(&mut connection).await?,
    })
}

/// Returns the app's connections from before the mark, which know only the old password. Pure.
pub fn from_before<'a>(clients: &'a [Client], told: &ConnectionMark) -> Vec<&'a Client> {
    clients
        .iter()
        .filter(|client| client.user == RedisUser::App.name() && client.id < told.connection)
        .collect()
}

/// Waits until no connection from before the mark is left. `cut_off` disconnects them instead.
pub async fn await_gone(
    master: &Server,
    told: &ConnectionMark,
    deadline: Duration,
    cut_off: bool,
    step: &Step,
) -> Result<usize> {
    let run_id = &told.run_id;
    let left = || async {
        let mut connection = master.connect(0).await?;
        // A server that was started anew since has no connection from before.
        if connection.info().await?.run_id != *run_id {
            return Ok((connection, Vec::new()));
        }
        let clients = control::clients(&mut connection).await?;
        let left: Vec<Client> = from_before(&clients, told).into_iter().cloned().collect();
        Ok::<_, Error>((connection, left))
    };
    if cut_off {
        let (mut connection, left) = left().await?;
        let ids: Vec<u64> = left.iter().map(|client| client.id).collect();
        return control::kill_clients(&mut connection, &ids).await;
    }
    Wait::new(
        "connections with the old password to end",
        deadline,
        "their processes would fail at their next login: stop them and run `infra rotate app` again, or give --cut-off to refuse the old password all the same",
    )
    .until(step, || async {
        let (_, left) = left().await?;
        Ok(match left.first() {
            None => Look::Ready(0),
            Some(first) => Look::NotYet(format!("{} are left, one from {}", left.len(), first.addr)),
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: u64, user: &str) -> Client {
        Client::idle(id, "192.0.2.7:40000", user, "")
    }

    #[test]
    fn only_the_apps_own_connections_from_before_the_mark_are_waited_for() {
        let told = ConnectionMark {
            run_id: "r".into(),
            connection: 10,
        };
        let clients = [
            client(9, "app"),
            client(11, "app"),
            client(3, "replication"),
            client(4, "admin"),
        ];
        let left: Vec<u64> = from_before(&clients, &told).iter().map(|client| client.id).collect();
        assert_eq!(left, [9]);
    }

    #[test]
    fn every_var_that_logs_in_at_the_endpoint_gets_the_password_and_no_other() {
        let vars = ConfigVars::plain([
            ("REDIS_URL", "rediss://app:old@192.0.2.1:6379"),
            ("CACHE_URL", "rediss://app:old@redis.example.test:6379/3"),
            ("HOSTED_REDIS_URL", "rediss://:other@192.0.2.9:6390"),
            ("ADMIN_URL", "rediss://monitoring:m@192.0.2.1:6379"),
            ("PLAIN", "word"),
        ]);
        let names = ["192.0.2.1".to_string(), "redis.example.test".to_string()];
        let renewed = renewed(&vars, &names, &Secret::new("new"));
        let shown: Vec<(&str, &str)> = renewed
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_ref().unwrap().expose()))
            .collect();
        assert_eq!(
            shown,
            [
                ("CACHE_URL", "rediss://app:new@redis.example.test:6379/3"),
                ("REDIS_URL", "rediss://app:new@192.0.2.1:6379"),
            ]
        );
    }
}
