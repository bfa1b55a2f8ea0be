//! Writes the source's pin into `infra.yml`.

use super::fields::Config;
use crate::model::error::{Doing, Result};
use crate::model::files;
use crate::model::values::Pin;
use std::path::Path;

/// Writes the source's pin into the file and keeps the rest, comments too. Returns false if
/// `source` has a form that no line can be added to.
pub fn write_pin(path: &Path, pin: &str) -> Result<bool> {
    let text = std::fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
    let Some(pinned) = with_pin(&text, pin) else {
        return Ok(false);
    };
    files::replace(path, &pinned).doing(|| format!("write {}", path.display()))?;
    Ok(true)
}

/// Returns the text with the pin, if it parses with that pin.
fn with_pin(text: &str, pin: &str) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    if let Some(line) = lines.iter_mut().find(|line| line.trim_start().starts_with("tls_pin:")) {
        let indent = line.len() - line.trim_start().len();
        *line = format!("{}tls_pin: {pin}", " ".repeat(indent));
    } else {
        let at = lines.iter().position(|line| line.starts_with("source:"))?;
        if let Some(close) = lines[at].rfind('}') {
            lines[at].insert_str(close, &format!(", tls_pin: \"{pin}\""));
        } else {
            lines.insert(at + 1, format!("  tls_pin: {pin}"));
        }
    }
    let pinned = lines.join("\n") + "\n";
    let read = Config::parse(&pinned).ok()?;
    let wanted: Pin = pin.parse().ok()?;
    (read.source.tls_pin == Some(wanted)).then_some(pinned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = "name: demo\nsource: {config_var: REDIS_URL}\napp: {name: demo}\n";

    #[test]
    fn a_pin_is_added_or_replaced_and_the_rest_stays() {
        let pin = format!("sha256:{}", "ab".repeat(32));
        let block = "# ours\nname: demo\nsource:\n  config_var: REDIS_URL # theirs\napp: {name: demo}\n";
        for text in [SMALLEST, block] {
            let pinned = with_pin(text, &pin).unwrap();
            assert_eq!(Config::parse(&pinned).unwrap().source.tls_pin, pin.parse().ok());
            let again = format!("sha256:{}", "cd".repeat(32));
            if text == block {
                assert!(pinned.contains("# theirs") && pinned.starts_with("# ours"));
                let replaced = with_pin(&pinned, &again).unwrap();
                assert_eq!(Config::parse(&replaced).unwrap().source.tls_pin, again.parse().ok());
            }
        }
        assert_eq!(with_pin("source: &anchor\n", &pin), None);
    }
}
