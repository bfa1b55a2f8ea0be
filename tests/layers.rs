//! Holds that the folders under `src` are layers: a file imports from its own layer and from those below, one command never imports another, and no two files import each
//! other, however long the way around.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::visit::Visit;

/// The lowest layer first.
const LAYERS: [&str; 6] = ["model", "ui", "effects", "decide", "sequences", "commands"];

type Module = Vec<String>;

/// The modules of a crate, each with the modules that it imports. Code for tests is left out.
struct Imports(BTreeMap<Module, BTreeSet<Module>>);

/// The imports and re-exports of one file: a name, and where that really is.
struct File {
    imported: BTreeSet<Module>,
    exported: BTreeMap<String, Module>,
}

impl Imports {
    fn read(source: &Path) -> Self {
        let mut paths = BTreeMap::new();
        collect(source, &mut Module::new(), &mut paths);
        let files: BTreeMap<Module, File> = paths
            .into_iter()
            .map(|(module, path)| {
                let file = syn::parse_file(&std::fs::read_to_string(path).unwrap()).unwrap();
                let mut paths = Paths {
                    inside: module.clone(),
                    file: File {
                        imported: BTreeSet::new(),
                        exported: BTreeMap::new(),
                    },
                };
                paths.visit_file(&file);
                (module, paths.file)
            })
            .collect();
        let imports = files.iter().map(|(module, file)| {
            let imported = file.imported.iter().filter_map(|path| owner(path, &files, 0));
            (module.clone(), imported.filter(|imported| imported != module).collect())
        });
        Imports(imports.collect())
    }

    /// Imports that point up, or from one command to another.
    fn misplaced(&self) -> Vec<String> {
        let height = |module: &Module| {
            LAYERS
                .iter()
                .position(|layer| module.first().is_some_and(|name| name == layer))
        };
        let mut misplaced = Vec::new();
        for (module, imports) in &self.0 {
            for imported in imports {
                let is_up = height(imported) > height(module) && !module.is_empty();
                // `commands` itself hands each command its arguments.
                let is_sideways = module.len() > 1
                    && imported.len() > 1
                    && module[0] == "commands"
                    && imported[0] == "commands"
                    && module[1] != imported[1]
                    && imported[1] != "cli"
                    && module[1] != "cli";
                if is_up || is_sideways {
                    misplaced.push(format!("{} imports {}", module.join("::"), imported.join("::")));
                }
            }
        }
        misplaced
    }

    /// Groups of files that import each other. A folder's `mod.rs` counts for what it declares itself.
    fn circles(&self) -> Vec<String> {
        let reachable: BTreeMap<&Module, BTreeSet<&Module>> =
            self.0.keys().map(|module| (module, self.reachable(module))).collect();
        let mut circles = BTreeSet::new();
        for (module, reached) in &reachable {
            let circle: Vec<String> = reached
                .iter()
                .filter(|other| reachable[*other].contains(module))
                .map(|other| other.join("::"))
                .collect();
            if circle.len() > 1 {
                circles.insert(circle.join(", "));
            }
        }
        circles.into_iter().collect()
    }

    fn reachable(&self, from: &Module) -> BTreeSet<&Module> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&Module> = self.0[from].iter().collect();
        while let Some(module) = open.pop() {
            if reached.insert(module) {
                open.extend(&self.0[module]);
            }
        }
        reached
    }
}

fn collect(folder: &Path, module: &mut Module, files: &mut BTreeMap<Module, PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if matches!(name.as_str(), "tests" | "snapshots" | "fuzz") {
                continue;
            }
            module.push(name);
            collect(&path, module, files);
            module.pop();
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_for_tests(&name) {
            let own = matches!(name.as_str(), "mod" | "lib" | "main");
            let full = module.iter().cloned().chain((!own).then_some(name)).collect();
            files.insert(full, path);
        }
    }
}

fn is_for_tests(name: &str) -> bool {
    name == "tests" || name.ends_with("_tests") || matches!(name, "testing" | "fuzz" | "main")
}

/// The file that a path names something in: the longest module that it begins with, or where that module has it from.
fn owner(path: &[String], files: &BTreeMap<Module, File>, depth: usize) -> Option<Module> {
    let module = (1..=path.len())
        .rev()
        .map(|length| path[..length].to_vec())
        .find(|module| files.contains_key(module))?;
    let origin = path
        .get(module.len())
        .and_then(|name| files[&module].exported.get(name));
    match origin {
        Some(origin) if depth < 8 => {
            let rest = &path[module.len() + 1..];
            owner(&[origin.as_slice(), rest].concat(), files, depth + 1)
        }
        _ => Some(module),
    }
}

/// Collects every path that begins with `crate`, `super` or `self`, as one from the crate's root.
struct Paths {
    inside: Module,
    file: File,
}

impl Paths {
    fn absolute(&self, segments: &[String]) -> Option<Module> {
        let mut at = match segments.first().map(String::as_str) {
            Some("crate") => Module::new(),
            Some("super" | "self") => self.inside.clone(),
            _ => return None,
        };
        for segment in segments {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => drop(at.pop()),
                name => at.push(name.to_owned()),
            }
        }
        Some(at)
    }

    fn add(&mut self, segments: &[String]) {
        let path = self.absolute(segments);
        self.file.imported.extend(path);
    }

    /// A re-export names a child of its module without `self`.
    fn export(&mut self, segments: &[String], name: &syn::Ident) {
        let path = self
            .absolute(segments)
            .unwrap_or_else(|| [self.inside.as_slice(), segments].concat());
        self.file.exported.insert(name.to_string(), path);
    }

    fn add_tree(&mut self, is_export: bool, before: &mut Module, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_tree(is_export, before, &path.tree);
                before.pop();
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(is_export, before, tree);
                }
            }
            syn::UseTree::Name(name) if is_export => self.export(&with(before, &name.ident), &name.ident),
            syn::UseTree::Rename(rename) if is_export => self.export(&with(before, &rename.ident), &rename.rename),
            syn::UseTree::Name(name) => self.add(&with(before, &name.ident)),
            syn::UseTree::Rename(rename) => self.add(&with(before, &rename.ident)),
            syn::UseTree::Glob(_) => self.add(before),
        }
    }
}

fn with(before: &[String], last: &syn::Ident) -> Module {
    before.iter().cloned().chain([last.to_string()]).collect()
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            self.inside.push(item.ident.to_string());
            syn::visit::visit_item_mod(self, item);
            self.inside.pop();
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_export = !matches!(item.vis, syn::Visibility::Inherited);
        if !is_test(&item.attrs) {
            self.add_tree(is_export, &mut Module::new(), &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&segments);
        syn::visit::visit_path(self, path);
    }
}

#[test]
fn imports_point_down_and_go_around_in_no_circle() {
    let imports = Imports::read(Path::new("src"));
    assert!(imports.0.len() > 150, "only {} files were found", imports.0.len());
    assert_eq!(imports.misplaced(), Vec::<String>::new());
    for source in ["src", "agent/src", "sandbox/src", "module/src", "trust/src", "wire/src"] {
        assert_eq!(
            Imports::read(Path::new(source)).circles(),
            Vec::<String>::new(),
            "{source}"
        );
    }
}

#[test]
fn an_import_that_points_up_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("model/mod.rs", "pub mod names;");
    write(
        "model/names.rs",
        "fn name() -> crate::effects::Kind { crate::effects::Kind }",
    );
    write("effects/mod.rs", "mod kind; pub use kind::Kind;");
    write("effects/kind.rs", "use crate::model::names; pub struct Kind;");
    write(
        "commands/up.rs",
        "use super::down::run; #[cfg(test)] mod tests { use crate::ui::nothing; }",
    );
    write("commands/down.rs", "pub fn run() {}");
    let imports = Imports::read(folder.path());
    let expected = [
        "commands::up imports commands::down",
        "model::names imports effects::kind",
    ];
    assert_eq!(imports.misplaced(), expected);
    assert_eq!(imports.circles(), ["effects::kind, model::names"]);
}
