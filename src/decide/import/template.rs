//! The template of a key. One that only names columns is rendered by hand, since rows are many.

use std::collections::BTreeSet;
use tera::{Context, Tera};

/// The name under which the template engine keeps the one template.
const NAME: &str = "key";

#[derive(Debug)]
pub enum Template {
    /// Literal texts and columns in turn.
    Plain(Vec<Piece>),
    Engine(Box<Tera>, Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Literal(String),
    Column(String),
}

impl Template {
    /// Reads a template; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut tera = Tera::new();
        tera.autoescape_on(Vec::<String>::new());
        tera.add_raw_template(NAME, text).map_err(|error| error.to_string())?;
        let names = tera.get_template_variables(NAME).map_err(|error| error.to_string())?;
        let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
        Ok(match plain(text) {
            Some(pieces) => Template::Plain(pieces),
            None => Template::Engine(Box::new(tera), names.into_iter().collect()),
        })
    }

    /// Returns the columns that it names, each once.
    pub fn columns(&self) -> Vec<String> {
        let named: BTreeSet<String> = match self {
            Template::Plain(pieces) => pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Column(name) => Some(name.clone()),
                    Piece::Literal(_) => None,
                })
                .collect(),
            Template::Engine(_, names) => names.iter().cloned().collect(),
        };
        named.into_iter().collect()
    }

    /// Returns the text before the first column, with which every key begins.
    pub fn prefix(&self) -> &str {
        match self {
            Template::Plain(pieces) => match pieces.first() {
                Some(Piece::Literal(text)) => text,
                _ => "",
            },
            Template::Engine(..) => "",
        }
    }

    /// Returns the pattern of SCAN that all of its keys match.
    pub fn pattern(&self) -> String {
        let Template::Plain(pieces) = self else {
            return "*".into();
        };
        let mut pattern = String::new();
        for piece in pieces {
            match piece {
                Piece::Column(_) => pattern.push('*'),
                Piece::Literal(text) => {
                    for letter in text.chars() {
                        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
                            pattern.push('\\');
                        }
                        pattern.push(letter);
                    }
                }
            }
        }
        pattern
    }
}

/// Renders a template of the engine. Numbers come as numbers, so that it can calculate with them.
pub fn render(tera: &Tera, values: &[(&str, &str, bool)]) -> Result<String, String> {
    let mut context = Context::new();
    for (name, text, is_integer) in values {
        match text.parse::<i64>() {
            Ok(number) if *is_integer => context.insert((*name).to_owned(), &number),
            _ => context.insert((*name).to_owned(), text),
        }
    }
    tera.render(NAME, &context).map_err(|error| {
        let mut causes = vec![error.to_string()];
        let mut next = std::error::Error::source(&error);
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        causes.join(": ")
    })
}

/// Returns the pieces of a template that has only literal text and `{{ column }}`.
fn plain(text: &str) -> Option<Vec<Piece>> {
    if text.contains("{%") || text.contains("{#") {
        return None;
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        if at > 0 {
            pieces.push(Piece::Literal(rest[..at].to_owned()));
        }
        let (inner, after) = rest[at + 2..].split_once("}}")?;
        let name = inner.trim();
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        if !is_name {
            return None;
        }
        pieces.push(Piece::Column(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_template_names_its_columns_and_the_pattern_of_its_keys() {
        let template = Template::parse("marker:{{ user_id }}:[{{name}}]").unwrap();
        assert_eq!(template.columns(), ["name", "user_id"]);
        assert_eq!(template.pattern(), "marker:*:\\[*\\]");
        assert_eq!(template.prefix(), "marker:");
        let engine = Template::parse("m:{{ user_id % 10 }}:{{ name | lower }}").unwrap();
        assert_eq!(engine.columns(), ["name", "user_id"]);
        assert_eq!(engine.pattern(), "*");
        assert!(Template::parse("m:{{ user_id").is_err());
    }

    #[test]
    fn the_engine_calculates_with_integers_and_leaves_texts_as_they_are() {
        let Template::Engine(tera, _) = Template::parse("m:{{ id % 10 }}:{{ name | upper }}").unwrap() else {
            panic!("this template is not plain");
        };
        let rendered = render(&tera, &[("id", "17", true), ("name", "<ada>", false)]);
        assert_eq!(rendered.unwrap(), "m:7:<ADA>");
    }

    proptest! {
        #[test]
        fn a_plain_template_is_rendered_as_by_the_engine(before in "[a-z:\"<]{0,6}", value in "\\PC{0,12}", after in "[a-z:}]{0,6}") {
            let text = format!("{before}{{{{ a }}}}{after}");
            prop_assume!(!text.contains("}}}"));
            let Some(pieces) = plain(&text) else { panic!("{text} is plain") };
            let by_hand: String = pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Literal(text) => text.as_str(),
                    Piece::Column(_) => value.as_str(),
                })
                .collect();
            let mut tera = Tera::new();
            tera.autoescape_on(Vec::<String>::new());
            tera.add_raw_template(NAME, &text).unwrap();
            prop_assert_eq!(render(&tera, &[("a", &value, false)]).unwrap(), by_hand);
        }
    }
}
