//! Looks in source code, scripts and documents for the words that `docs/glossary.md` says a test looks for.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::path::{Path, PathBuf};

const GLOSSARY: &str = "docs/glossary.md";

/// Files that name the words in order to forbid them.
const EXEMPT: [&str; 3] = [GLOSSARY, "docs/style.md", "tests/words.rs"];

/// Texts that are allowed, each in files whose path begins like this.
const ALLOWED: &[(&str, &str)] = &[
    // Rust's own, and the libraries'.
    ("", "flatten()"),
    ("", "flatten)"),
    ("", "::flatten"),
    // An action of the script on hosts, which old and new hosts know by this name; fault points have it too.
    ("templates/infra-role.sh", "door"),
    ("src/effects/host/role.rs", "door"),
    ("tests/host_files/", "door open"),
    ("tests/host_files/", "door closed"),
    ("tests/host_files/", "door {word}"),
    ("tests/", "\"door\""),
    ("tests/", "\"door closed\""),
    ("tests/recovery/", "role door open"),
    ("tests/recovery/", "role door closed"),
    // The file through which the sandbox's supervisor sees its machines.
    ("sandbox/aws/localcloud", "door"),
    ("sandbox/aws/localcloud", "Door"),
    ("sandbox/src/aws/plugin.rs", "localcloud/door.py"),
    // Names in the journal, in JSON, and of fault points.
    ("", "\"close door\""),
    ("", "\"open door\""),
    ("", "\"sever\""),
    ("", "\"severed\""),
    ("", "\"flatten\""),
    ("", "\"flattening\""),
    ("", "\"flattened\""),
    ("", "\"beside\""),
];

/// A word that is not used, and what to say instead.
struct Banned {
    word: String,
    instead: String,
    /// Only the names in Rust are looked at: elsewhere the word has another meaning too.
    is_name: bool,
}

impl Banned {
    /// Reads the glossary's table; what follows a comma in the first column says where the word is meant.
    fn listed(glossary: &str) -> Vec<Banned> {
        let (_, section) = glossary.split_once("\n## Words that a test looks for\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim);
            Some((cells.next()?, cells.next()?))
        });
        rows.skip(2)
            .map(|(what, instead)| {
                let (word, meant) = what.split_once(',').unwrap_or((what, ""));
                Banned {
                    word: word.to_owned(),
                    instead: instead.to_owned(),
                    is_name: meant.contains("name"),
                }
            })
            .collect()
    }

    /// Returns true if a part of the text is the word, in one of its forms. A word with a capital counts only with it.
    fn is(&self, part: &str) -> bool {
        if self.word.starts_with(char::is_uppercase) {
            return part
                .strip_prefix(self.word.as_str())
                .is_some_and(|rest| matches!(rest, "" | "s"));
        }
        let part = part.to_lowercase();
        let rest = part.strip_prefix(self.word.as_str());
        rest.is_some_and(|rest| matches!(rest, "" | "s" | "ed" | "ing"))
    }

    fn is_in(&self, line: &str, code: &str) -> bool {
        if !self.is_name {
            return parts(line).iter().any(|part| self.is(part));
        }
        // In a name of several words with underscores it may be the preposition.
        code.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|name| self.is(name) || (!name.contains('_') && parts(name).iter().any(|part| self.is(part))))
    }
}

/// The words of a line; those of a name too, such as `open_door` and `OpenDoor`.
fn parts(line: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for run in line.split(|c: char| !c.is_alphanumeric()) {
        let mut begin = 0;
        let mut before = 'A';
        for (at, letter) in run.char_indices() {
            if letter.is_uppercase() && !before.is_uppercase() {
                parts.push(&run[begin..at]);
                begin = at;
            }
            before = letter;
        }
        parts.push(&run[begin..]);
    }
    parts
}

/// Rust without comments and without what stands between quotation marks, line by line.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r\"") || rest.starts_with("r#") {
            let marks = rest[1..].chars().take_while(|c| *c == '#').count();
            let end = format!("\"{}", "#".repeat(marks));
            let begin = marks + 2;
            let found = rest.get(begin..).and_then(|inner| inner.find(&end));
            // `r#type` is a name.
            if rest[1 + marks..].starts_with('"') {
                found.map_or(rest.len(), |at| begin + at + end.len())
            } else {
                0
            }
        } else if first == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c: char| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            0
        };
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().filter(|c| *c == '\n'));
            code.push(' ');
            rest = &rest[length..];
        }
    }
    code
}

/// Names the line of each word that is found, and what to say instead.
fn found(path: &str, text: &str, banned: &[Banned]) -> Vec<String> {
    let mut text = text.to_owned();
    for (_, allowed) in ALLOWED.iter().filter(|(files, _)| path.starts_with(files)) {
        text = text.replace(allowed, "");
    }
    let code = if path.ends_with(".rs") {
        code(&text)
    } else {
        String::new()
    };
    let mut lines_of_code = code.lines();
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let code = lines_of_code.next().unwrap_or_default();
        for banned in banned.iter().filter(|banned| banned.is_in(line, code)) {
            found.push(format!("{path}:{number}: not `{}`: {}", banned.word, banned.instead));
        }
    }
    found
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                collect(&path, files);
            }
        } else if matches!(
            path.extension().and_then(|end| end.to_str()),
            Some("rs" | "md" | "sh" | "py" | "tera")
        ) {
            files.push(path);
        }
    }
}

#[test]
fn no_word_that_the_glossary_bans_is_used() {
    let banned = Banned::listed(&std::fs::read_to_string(GLOSSARY).unwrap());
    let mut files = Vec::new();
    collect(Path::new("."), &mut files);
    assert!(files.len() > 400, "only {} files were found", files.len());
    files.sort();
    let mut all = Vec::new();
    for file in &files {
        let path = file.strip_prefix(".").unwrap().to_str().unwrap();
        if !EXEMPT.contains(&path) {
            all.extend(found(path, &std::fs::read_to_string(file).unwrap(), &banned));
        }
    }
    assert!(
        all.is_empty(),
        "{} in all; see {GLOSSARY}:\n{}",
        all.len(),
        all.join("\n")
    );
}

#[test]
fn a_banned_word_is_found_in_prose_and_in_names() {
    let glossary = "# Glossary\n\n## Words that a test looks for\n\nText.\n\n| word | say instead |\n|---|---|\n| door | access |\n\
        | beside, as a noun or a name | instance |\n| flatten, of config vars | detach |\n| Told | report |\n\nEnd.\n";
    let banned = Banned::listed(glossary);
    let words: Vec<&str> = banned.iter().map(|banned| banned.word.as_str()).collect();
    assert_eq!(words, ["door", "beside", "flatten", "Told"]);
    let lines = |path: &str, text: &str| {
        let numbers = found(path, text, &banned).into_iter().map(|found| {
            let number = found.strip_prefix(path).unwrap().split(':').nth(1).unwrap();
            number.parse::<usize>().unwrap()
        });
        numbers.collect::<Vec<usize>>()
    };
    assert_eq!(
        found("docs/a.md", "one\nThe Door is shut.\n", &banned),
        ["docs/a.md:2: not `door`: access"]
    );
    for text in [
        "doors",
        "two_doors_open",
        "OpenDoor",
        "\"the door\"",
        "// Flattened vars.",
        "UpTold",
        "mod beside;",
    ] {
        assert_eq!(lines("src/a.rs", text), [1], "{text}");
    }
    for text in [
        "list.flatten()",
        "indoors",
        "it was told",
        "untold",
        "// Beside it.",
        "run_beside()",
    ] {
        assert_eq!(lines("src/a.rs", text), [0; 0], "{text}");
    }
    let rust = "let a = \"beside\\\" beside\"; // beside\n/* beside\n */ let b = r#\"\nbeside\"#; let q = '\"';\nstruct Beside;\n";
    assert_eq!(lines("src/a.rs", rust), [5]);
    assert_eq!(lines("docs/a.md", "It stands beside the other."), [0; 0]);
}
