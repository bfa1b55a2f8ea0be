//! The clients that wait to move an element from one list to another (BLMOVE, BRPOPLPUSH). A push
//! serves them at once, and MONITOR shows nothing of that. Those that began to wait before MONITOR
//! have to be asked for.

use crate::copy::link::Link;
use anyhow::{Result, bail};
use redis::Value;
use std::collections::HashSet;
use wire::info::Fields;
use wire::reply::text_lossy;

const MOVES: &[&str] = &["blmove", "brpoplpush"];

/// Returns the addresses of clients that wait so now. Fails if the source does not tell.
pub fn ask(link: &mut Link) -> Result<HashSet<String>> {
    link.add(&[b"CLIENT", b"LIST"]);
    link.add(&[b"INFO", b"clients"]);
    let mut answers = link.answers()?;
    let (clients, list) = (answers.pop(), answers.pop());
    if let Some(Value::ServerError(_)) | None = list {
        let text = clients.as_ref().and_then(text_lossy).unwrap_or_default();
        return match Fields::read(&text).number::<u64>("blocked_clients") {
            Ok(0) => Ok(HashSet::new()),
            _ => bail!("clients of the source may wait for lists, and it does not tell which (CLIENT LIST)"),
        };
    }
    let list = list.as_ref().and_then(text_lossy).unwrap_or_default();
    Ok(list.lines().filter_map(address).collect())
}

/// Returns the address of a client that waits; nothing for any other one.
fn address(line: &str) -> Option<String> {
    let field = |name: &str| {
        line.split(' ')
            .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    let waits = field("flags")?.contains('b') && MOVES.contains(&field("cmd")?);
    waits.then(|| field("addr").map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_that_wait_to_move_an_element_count() {
        let line = |flags, command| {
            format!("id=7 addr=10.0.0.1:4711 laddr=10.0.0.2:6379 flags={flags} cmd={command} user=app")
        };
        assert_eq!(address(&line("b", "blmove")).as_deref(), Some("10.0.0.1:4711"));
        assert_eq!(address(&line("bx", "brpoplpush")).as_deref(), Some("10.0.0.1:4711"));
        for other in [line("N", "blmove"), line("b", "blpop"), String::new()] {
            assert_eq!(address(&other), None, "{other}");
        }
    }
}
