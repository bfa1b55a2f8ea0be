//! Makes the table of `docs/configuration.md` from `src/model/config/fields.rs`: each field's name, its doc comment and its default.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use testkit::document;

use std::collections::BTreeMap;
use syn::{Attribute, Expr, Fields, GenericArgument, Item, ItemEnum, ItemStruct, Lit, Meta, PathArguments, Type};

/// The definitions of the source file.
#[derive(Default)]
struct Definitions {
    structs: BTreeMap<String, ItemStruct>,
    enums: BTreeMap<String, ItemEnum>,
    /// Results of functions without arguments: `Type::function`, and `Type` for `Default`.
    values: BTreeMap<String, Expr>,
}

struct Row {
    field: String,
    default: String,
    meaning: String,
}

impl Definitions {
    fn read(text: &str) -> Self {
        let mut read = Definitions::default();
        for item in syn::parse_file(text).unwrap().items {
            match item {
                Item::Struct(item) => drop(read.structs.insert(item.ident.to_string(), item)),
                Item::Enum(item) => drop(read.enums.insert(item.ident.to_string(), item)),
                Item::Impl(item) => read.read_impl(item),
                _ => {}
            }
        }
        read
    }

    fn read_impl(&mut self, item: syn::ItemImpl) {
        let of = name_of(&item.self_ty);
        for function in item.items {
            if let syn::ImplItem::Fn(function) = function
                && function.sig.inputs.is_empty()
                && let Some(syn::Stmt::Expr(value, None)) = function.block.stmts.last()
            {
                let name = match &item.trait_ {
                    Some(_) => of.clone(),
                    None => format!("{of}::{}", function.sig.ident),
                };
                self.values.insert(name, value.clone());
            }
        }
    }

    /// One row for each field with a doc comment, and those of the struct that it holds.
    fn rows(&self, of: &str, prefix: &str) -> Vec<Row> {
        let item = &self.structs[of];
        let Fields::Named(fields) = &item.fields else {
            panic!("{of} has no named fields");
        };
        let mut rows = Vec::new();
        for field in &fields.named {
            let name = field.ident.as_ref().unwrap().to_string();
            let full = format!("{prefix}{name}");
            let inner = inner(&field.ty);
            let holds_struct = self.structs.contains_key(&inner);
            let paragraphs = paragraphs(&field.attrs);
            assert!(
                holds_struct || !paragraphs.is_empty(),
                "say what {full} is, in its doc comment"
            );
            if let Some(meaning) = paragraphs.first() {
                let written = paragraphs.iter().find_map(|text| text.strip_prefix("Default: "));
                let default = match written {
                    Some(text) => text.trim_end_matches('.').to_owned(),
                    None => self
                        .default_of(item, field)
                        .map_or(String::new(), |value| format!("`{value}`")),
                };
                rows.push(Row {
                    field: full.clone(),
                    default,
                    meaning: as_cell(meaning),
                });
            }
            if holds_struct {
                rows.extend(self.rows(&inner, &format!("{full}.")));
            }
        }
        rows
    }

    /// The default that the code names, as YAML writes it; `None` for nothing, for an empty list and for a field that has to be there.
    fn default_of(&self, item: &ItemStruct, field: &syn::Field) -> Option<String> {
        let name = field.ident.as_ref().unwrap();
        if let Some(Expr::Struct(value)) = self.values.get(&item.ident.to_string()) {
            let value = value
                .fields
                .iter()
                .find(|value| value.member == syn::Member::Named(name.clone()));
            return self.shown(&value.unwrap().expr);
        }
        if let Some(function) = serde_default(&field.attrs) {
            return self.shown(&self.values[&function]);
        }
        let of = name_of(&field.ty);
        if has_default(&field.attrs) || has_default(&item.attrs) {
            if of == "bool" {
                return Some("false".into());
            }
            let variants = &self.enums.get(&of)?.variants;
            let variant = variants.iter().find(|variant| is_there(&variant.attrs, "default"));
            return variant.map(|variant| variant.ident.to_string().to_lowercase());
        }
        None
    }

    fn shown(&self, value: &Expr) -> Option<String> {
        match value {
            Expr::MethodCall(call) if call.method == "into" => self.shown(&call.receiver),
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                Lit::Int(number) => Some(number.base10_digits().to_owned()),
                Lit::Bool(value) => Some(value.value.to_string()),
                _ => panic!("a default of an unknown kind"),
            },
            // A variant of an enum; `None` and `Vec::new()` are nothing.
            Expr::Path(path) if path.path.segments.len() == 2 => {
                Some(path.path.segments[1].ident.to_string().to_lowercase())
            }
            _ => None,
        }
    }
}

fn name_of(of: &Type) -> String {
    match of {
        Type::Path(path) => path.path.segments.last().unwrap().ident.to_string(),
        _ => panic!("a type of an unknown kind"),
    }
}

/// Returns the type inside an `Option`, or the type itself.
fn inner(of: &Type) -> String {
    if let Type::Path(path) = of
        && let Some(last) = path.path.segments.last()
        && last.ident == "Option"
        && let PathArguments::AngleBracketed(arguments) = &last.arguments
        && let Some(GenericArgument::Type(held)) = arguments.args.first()
    {
        return name_of(held);
    }
    name_of(of)
}

fn is_there(attributes: &[Attribute], name: &str) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident(name))
}

/// Returns true if serde or a derive gives a field that is left out its default.
fn has_default(attributes: &[Attribute]) -> bool {
    serde(attributes).iter().any(|(name, _)| name == "default")
}

/// The function that makes the default: `#[serde(default = "…")]`.
fn serde_default(attributes: &[Attribute]) -> Option<String> {
    let found = serde(attributes).into_iter().find(|(name, _)| name == "default");
    found.and_then(|(_, value)| value)
}

fn serde(attributes: &[Attribute]) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        attribute
            .parse_nested_meta(|meta| {
                let name = meta.path.get_ident().unwrap().to_string();
                assert!(name != "rename", "this test does not know fields with another name");
                let value = meta.value().and_then(|value| value.parse::<syn::LitStr>());
                found.push((name, value.ok().map(|text| text.value())));
                Ok(())
            })
            .unwrap();
    }
    found
}

fn paragraphs(attributes: &[Attribute]) -> Vec<String> {
    let mut lines = Vec::new();
    for attribute in attributes {
        if let Meta::NameValue(doc) = &attribute.meta
            && doc.path.is_ident("doc")
            && let Expr::Lit(literal) = &doc.value
            && let Lit::Str(text) = &literal.lit
        {
            lines.push(text.value().trim().to_owned());
        }
    }
    let joined = lines.split(|line| line.is_empty()).map(|lines| lines.join(" "));
    joined.filter(|text| !text.is_empty()).collect()
}

/// A sentence as a table has it: without a capital, unless the word has more of them, and without a full stop.
fn as_cell(sentence: &str) -> String {
    let text = sentence.trim_end_matches('.').replace('|', "\\|");
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text,
    }
}

fn table(source: &str) -> String {
    let rows = Definitions::read(source).rows("Config", "");
    let line = |row: &Row| {
        let default = if row.default.is_empty() {
            " ".to_owned()
        } else {
            format!(" {} ", row.default)
        };
        format!("| `{}` |{default}| {} |\n", row.field, row.meaning)
    };
    let lines: String = rows.iter().map(line).collect();
    format!("| field | default | what it is |\n|---|---|---|\n{lines}")
}

#[test]
fn the_document_lists_every_field_of_infra_yml() {
    let table = table(include_str!("../src/model/config/fields.rs"));
    document::holds("docs/configuration.md", "fields", &table);
}

#[test]
fn a_field_is_listed_with_its_default_and_its_meaning() {
    let source = r#"
        pub struct Config {
            /// The name, at
            /// most `32` letters.
            pub name: String,
            #[serde(default)]
            pub part: Part,
            /// AWS keys: a|b.
            #[serde(default = "Config::keys")]
            pub keys: String,
        }
        impl Config { fn keys() -> String { "abc".into() } }
        #[serde(default)]
        pub struct Part {
            /// Size.
            pub size: u32,
            /// Kind.
            pub kind: Kind,
            /// Zone.
            ///
            /// Default: two `different`.
            pub zone: Option<String>,
        }
        impl Default for Part {
            fn default() -> Self { Part { size: 16, kind: Kind::Second, zone: None } }
        }
        pub enum Kind { First, Second }
    "#;
    let rows = "| `name` | | the name, at most `32` letters |\n| `part.size` | `16` | size |\n| `part.kind` | `second` | kind |\n\
        | `part.zone` | two `different` | zone |\n| `keys` | `abc` | AWS keys: a\\|b |\n";
    assert_eq!(
        table(source),
        format!("| field | default | what it is |\n|---|---|---|\n{rows}")
    );
}

/// Returns the ids of the findings that a source file makes: the first argument of each call.
fn ids(source: &str) -> Vec<String> {
    let calls = ["Finding::alarm(", "Finding::warning(", "unseen("];
    let after = calls.iter().flat_map(|call| source.split(call).skip(1));
    let quoted = after.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    quoted.map(str::to_string).collect()
}

#[test]
fn the_document_on_monitoring_names_every_finding_of_status() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/monitoring.md")).unwrap();
    let files = std::fs::read_dir(root.join("src/sequences/status")).unwrap();
    let files = files.map(|file| file.unwrap().path()).filter(|path| path.is_file());
    let sources = files.chain([root.join("src/decide/room.rs")]);
    let found: Vec<String> = sources
        .flat_map(|path| ids(&std::fs::read_to_string(path).unwrap()))
        .collect();
    assert!(found.len() > 20, "{found:?}");
    let is_named = |id: &String| id.ends_with("-unseen") || document.contains(&format!("`{id}`"));
    let unnamed: Vec<String> = found.into_iter().filter(|id| !is_named(id)).collect();
    assert!(unnamed.is_empty(), "{unnamed:?}");
}
