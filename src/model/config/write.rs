//! Writes single values into `infra.yml` and keeps the rest, comments too.

use super::fields::Config;
use crate::model::error::{Doing, Error, Result};
use crate::model::files;
use std::path::Path;

/// Writes these fields of `hosts` into the file. Fails if the file has a form in which that cannot
/// be done by lines.
pub fn write_hosts(path: &Path, instance_type: &str, disk_gb: u32) -> Result<()> {
    let text = std::fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
    let written = with_hosts(&text, instance_type, disk_gb).ok_or_else(|| {
        Error::usage(format!("write the new size into {}", path.display()))
            .because("its lines have a form that only a person can change")
            .hint(format!(
                "set `hosts.instance_type: {instance_type}` and `hosts.disk_gb: {disk_gb}` there, then run `infra resize`"
            ))
    })?;
    if written != text {
        files::replace(path, &written).doing(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Returns the text with these values, if it parses with them.
fn with_hosts(text: &str, instance_type: &str, disk_gb: u32) -> Option<String> {
    let has = |text: &str| {
        let hosts = Config::parse(text).ok()?.hosts;
        Some((hosts.instance_type == instance_type, hosts.disk_gb == disk_gb))
    };
    let (type_is_there, disk_is_there) = has(text)?;
    let mut written = text.to_string();
    if !type_is_there {
        written = with_field(&written, "instance_type", instance_type)?;
    }
    if !disk_is_there {
        written = with_field(&written, "disk_gb", &disk_gb.to_string())?;
    }
    (has(&written)? == (true, true)).then_some(written)
}

/// Returns the text with one field of `hosts` set, whether that is a block, in braces or missing.
fn with_field(text: &str, field: &str, value: &str) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    let key = format!("{field}:");
    let Some(at) = lines.iter().position(|line| line.starts_with("hosts:")) else {
        lines.push("hosts:".into());
        lines.push(format!("  {key} {value}"));
        return Some(lines.join("\n") + "\n");
    };
    if let Some(open) = lines[at].find('{') {
        let close = lines[at].rfind('}')?;
        let inside = &lines[at][open + 1..close];
        let mut parts: Vec<String> = inside.split(',').map(|part| part.trim().to_string()).collect();
        parts.retain(|part| !part.is_empty() && !part.starts_with(&key));
        parts.push(format!("{key} {value}"));
        lines[at] = format!(
            "{}{{{}}}{}",
            &lines[at][..open],
            parts.join(", "),
            &lines[at][close + 1..]
        );
        return Some(lines.join("\n") + "\n");
    }
    let is_inside = |line: &&String| line.is_empty() || line.starts_with([' ', '#']);
    let length = lines[at + 1..].iter().take_while(is_inside).count();
    let block = at + 1..at + 1 + length;
    let found = lines[block].iter_mut().find(|line| line.trim_start().starts_with(&key));
    match found {
        Some(line) => {
            let indent = line.len() - line.trim_start().len();
            let comment = line.find(" #").map(|at| line[at..].to_string()).unwrap_or_default();
            *line = format!("{}{key} {value}{comment}", " ".repeat(indent));
        }
        None => lines.insert(at + 1, format!("  {key} {value}")),
    }
    Some(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = "name: demo\nsource: {config_var: REDIS_URL}\napp: {name: demo}\n";

    #[test]
    fn the_size_is_written_in_each_form_and_the_rest_stays() {
        for hosts in [
            "",
            "hosts:\n  zones: [a, b] # two\n",
            "hosts:\n  # ours\n  instance_type: t3.micro # small\n  disk_gb: 16\nredis:\n  maxmemory: 100mb\n",
            "hosts: {instance_type: t3.micro, domain: redis.example.com} # here\n",
            "hosts: {}\n",
        ] {
            let text = format!("# ours\n{SMALLEST}{hosts}");
            let written = with_hosts(&text, "t3.small", 32).unwrap();
            let read = Config::parse(&written).unwrap().hosts;
            assert_eq!(
                (read.instance_type.as_str(), read.disk_gb),
                ("t3.small", 32),
                "{written}"
            );
            for kept in [
                "# ours",
                "# two",
                "# small",
                "# here",
                "domain: redis.example.com",
                "maxmemory: 100mb",
            ] {
                assert_eq!(text.contains(kept), written.contains(kept), "{written}");
            }
            assert_eq!(with_hosts(&written, "t3.small", 32).as_deref(), Some(written.as_str()));
        }
    }

    #[test]
    fn a_form_that_no_line_can_be_changed_in_is_refused() {
        let braces = format!("{SMALLEST}hosts: {{\n  instance_type: t3.micro}}\n");
        assert_eq!(with_hosts(&braces, "t3.small", 16), None);
    }

    #[test]
    fn a_field_of_another_section_stays() {
        let text = format!("{SMALLEST}hosts:\n  zones: [a, b]\nbackup:\n  every: 1h\n");
        let written = with_hosts(&text, "t3.small", 16).unwrap();
        assert!(
            written.contains("hosts:\n  instance_type: t3.small\n  zones: [a, b]\nbackup:"),
            "{written}"
        );
    }
}
