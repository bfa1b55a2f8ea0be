//! Reads `import.yml`.

use super::check;
use super::fields::Mapping;
use crate::model::error::{Error, Result};
use crate::model::files;
use std::path::Path;

/// More than any person writes. It also bounds YAML aliases, which can repeat content.
const MAX_BYTES: u64 = 256 * 1024;

impl Mapping {
    pub fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = files::read_text(path, MAX_BYTES).map_err(|error| {
            Error::usage(format!("read {shown}")).because(error).hint(
                "run `infra import init`, which writes one from the database's schema, or name the file with --file",
            )
        })?;
        Self::parse(&text).map_err(|error| error.while_doing(format!("read {shown}")))
    }

    pub fn parse(text: &str) -> Result<Self> {
        let mapping: Mapping = serde_yaml::from_str(text)
            .map_err(|error| Error::usage(error.to_string()).hint("docs/import.md lists every field of import.yml"))?;
        check::check(&mapping)?;
        Ok(mapping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error::Kind;

    fn with(table: &str) -> Result<Mapping> {
        Mapping::parse(&format!(
            "source: {{url_env: DATABASE_URL}}\ntarget: {{redis: hosted}}\ntables:\n- {{{table}}}\n"
        ))
    }

    #[test]
    fn the_smallest_file_reads_a_table_of_public_gently() {
        let mapping = with("table: markers, key: 'marker:{{ id }}', type: string, value: status").unwrap();
        let table = &mapping.tables[0];
        let expected = super::super::Place::Table {
            schema: "public".into(),
            name: "markers".into(),
        };
        assert_eq!((table.place(), table.database), (expected, 0));
        assert_eq!(mapping.limits.parallel, 2);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (table, named) in [
            ("key: 'a', type: string, value: v", "`table` or `query`"),
            (
                "table: t, query: select 1, key: 'a', type: string, value: v",
                "`table` or `query`",
            ),
            (
                "query: select 1, key: 'a:{{ id }}', type: string, value: v",
                "key_columns",
            ),
            ("table: t, key: 'a:{{ id }}', type: string", "value"),
            ("table: t, key: 'a:{{ id }}', type: set", "value"),
            ("table: t, key: 'a:{{ id }}', type: sorted_set, value: v", "score"),
            ("table: t, key: 'a:{{ id }}', type: string, value: v, score: s", "score"),
            ("table: t, key: 'a:{{ id }}', type: hash, value: v", "value"),
            ("table: t, key: 'a', type: string, value: v", "key"),
            (
                "table: t, key: 'a:{{ id }}', type: string, value: v, encode: {null: word}",
                "null_word",
            ),
            ("table: t, key: 'a:{{ id }}', type: texts, value: v", "texts"),
            ("table: t, key: 'a:{{ id }}', type: string, valux: v", "valux"),
        ] {
            let error = with(table).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{table}");
            let text = error.chain().join(": ");
            assert!(text.contains(named), "{text} should name {named}");
        }
    }
}
