//! Judges who could come in: operators by ssh, apps by Redis. Correct settings are reported too,
//! since a wrong one is otherwise noticed only when somebody else got in.

use super::{Facts, Finding, Severity, SourceFacts, Unseen};
use crate::decide::access::{Access, Admins, Apps};

pub fn judge(admins: &Result<Admins, Unseen>, apps: &Result<Apps, Unseen>) -> [Finding; 2] {
    [
        match admins {
            Ok(admins) => judge_admins(admins),
            Err(unseen) => Finding::unseen("admin-cidrs", unseen),
        },
        match apps {
            Ok(apps) => judge_apps(apps),
            Err(unseen) => Finding::unseen("app-cidrs", unseen),
        },
    ]
}

/// Names the addresses for a provider that keeps a list of allowed ones. Nobody can see the list
/// from outside, so this is said of every source.
pub fn of_the_source(facts: &Facts) -> Option<Finding> {
    let hosts = facts.endpoint.as_ref()?;
    let operator = match &facts.admins {
        Ok(Admins::Own(address)) => format!(", this computer from {address}"),
        _ => String::new(),
    };
    Some(Finding::ok(
        "source-reach",
        format!(
            "the master reaches the source from {hosts}{operator}: a provider that keeps a list of allowed addresses must have them"
        ),
    ))
}

/// An instance has an IPv6 address only if its subnet gives it one.
pub fn of_ipv6(source: &SourceFacts) -> Option<Finding> {
    source.address.starts_with('[').then(|| {
        Finding::warning(
            "ipv6",
            format!(
                "the source's URL has an IPv6 address, {}: the hosts reach it only if their subnet gives them one too",
                source.address
            ),
            "name a subnet with IPv6 in hosts.subnet, or use the provider's URL with a name or an IPv4 address",
        )
    })
}

/// Returns what the operator should know before the rules are made, as sentences.
pub fn warnings(access: &Access) -> Vec<String> {
    let findings = [judge_admins(&access.admins), judge_apps(&access.apps)];
    findings
        .into_iter()
        .filter(|finding| finding.severity != Severity::Ok)
        .map(|finding| format!("{}: {}", finding.id, finding.line()))
        .collect()
}

fn judge_admins(admins: &Admins) -> Finding {
    match admins {
        Admins::Own(address) => Finding::ok(
            "admin-cidrs",
            format!("ssh only from your own address, {address}: hosts.admin_cidrs names nobody else"),
        ),
        Admins::Named(cidrs) if cidrs.is_empty() => Finding::warning(
            "admin-nobody",
            "nobody may reach ssh, nor Redis to verify and promote: hosts.admin_cidrs is empty",
            "let ssh and Redis come another way, such as Session Manager or a VPN into the hosts' network; or leave hosts.admin_cidrs out, which means your own address",
        ),
        Admins::Named(cidrs) => match admins.world() {
            Some(block) => Finding::warning(
                "admin-world",
                format!("the whole world may reach ssh: hosts.admin_cidrs has {block}"),
                "narrow hosts.admin_cidrs to your own addresses, or leave it out",
            ),
            None => Finding::ok("admin-cidrs", format!("ssh only from {}", list(cidrs))),
        },
    }
}

fn judge_apps(apps: &Apps) -> Finding {
    match apps {
        Apps::Anywhere => Finding::ok(
            "app-cidrs",
            "Redis from anywhere, by TLS and password: the app's processes have no fixed address",
        ),
        Apps::Spaces { names, addresses } => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            Finding::ok(
                "app-cidrs",
                format!(
                    "Redis only from the addresses of {}: {}",
                    names.join(" and "),
                    list(addresses)
                ),
            )
        }
        Apps::Named(cidrs) if cidrs.is_empty() => Finding::warning(
            "app-nobody",
            "no app may reach Redis: hosts.app_cidrs is empty",
            "name the app's addresses there, or leave it out",
        ),
        Apps::Named(cidrs) => Finding::ok("app-cidrs", format!("Redis only from {}", list(cidrs))),
    }
}

fn list<T: ToString>(addresses: impl IntoIterator<Item = T>) -> String {
    addresses
        .into_iter()
        .map(|address| address.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
