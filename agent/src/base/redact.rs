//! Removes passwords from the settings that are kept with a base.

pub(super) fn without_secrets(redis_conf: &str) -> String {
    const SECRET: [&str; 3] = ["masterauth", "requirepass", "tls-key-file-pass"];
    redis_conf
        .lines()
        .map(|line| match line.split_whitespace().next() {
            Some(name) if SECRET.contains(&name.to_ascii_lowercase().as_str()) => {
                format!("# {name} is not kept here\n")
            }
            _ => format!("{line}\n"),
        })
        .collect()
}

/// Removes clear passwords, which begin with `>` or `<`. Digests of passwords stay.
pub(super) fn without_passwords(users_acl: &str) -> String {
    users_acl
        .lines()
        .map(|line| {
            let words: Vec<&str> = line
                .split_whitespace()
                .filter(|word| !word.starts_with(['>', '<']))
                .collect();
            words.join(" ") + "\n"
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_kept_with_the_settings() {
        let conf = without_secrets("port 0\nmasterauth \"geheim\"\nMASTERAUTH geheim\ndir /d\n");
        assert!(
            !conf.contains("geheim") && conf.contains("port 0") && conf.contains("dir /d"),
            "{conf}"
        );
        let users = without_passwords("user app on >geheim #00ff ~* +@all\n");
        assert_eq!(users, "user app on #00ff ~* +@all\n");
    }
}
