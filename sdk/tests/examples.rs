//! Each public item of the SDK has an example in its documentation. `cargo test --doc` runs them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::{Attribute, Expr, ImplItem, Item, Lit, Meta, TraitItem, Type, UseTree, Visibility};

/// A module with what others can see of it: all that is public, or what is exported again elsewhere.
struct Module {
    file: String,
    is_public: bool,
    items: Vec<Item>,
}

#[test]
fn each_public_item_has_an_example() {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = Vec::new();
    read(&source.join("lib.rs"), &source, true, &mut modules);
    let (seen, lacking) = examine(&modules);
    assert!(seen > 350, "only {seen} items were found");
    assert!(
        lacking.is_empty(),
        "these have no example that runs (a code block without `no_run` and the like):\n{}",
        lacking.join("\n")
    );
}

#[test]
fn what_lacks_an_example_is_told() {
    let items = syn::parse_file(
        "/// ```\n/// shown();\n/// ```\npub fn shown() {}
        /// ```no_run\n/// compiled();\n/// ```\npub fn compiled() {}
        /// Text.\npub struct Bare;
        impl Bare { pub fn method(&self) {} fn private(&self) {} #[doc(hidden)] pub fn hidden(&self) {} }
        impl Clone for Bare { fn clone(&self) -> Self { Self } }
        pub trait Ask { fn ask(&self); }
        #[macro_export] macro_rules! exported { () => {} }
        macro_rules! own { () => {} }
        pub use raw::{Generated as Renamed, Other};
        pub(crate) struct Inside;
        struct Private;",
    );
    let module = Module {
        file: "x.rs".to_owned(),
        is_public: true,
        items: items.unwrap().items,
    };
    let (seen, lacking) = examine(&[module]);
    let expected = [
        "compiled",
        "Bare",
        "Bare::method",
        "Ask",
        "Ask::ask",
        "exported!",
        "Renamed",
        "Other",
    ];
    assert_eq!(lacking, expected.map(|name| format!("x.rs: {name}")));
    assert_eq!(seen, expected.len() + 1);
}

/// Reads a file and the modules that it declares, but not what is hidden, generated or a test.
fn read(file: &Path, folder: &Path, is_public: bool, modules: &mut Vec<Module>) {
    let text = std::fs::read_to_string(file).unwrap();
    let items = syn::parse_file(&text).unwrap().items;
    for item in &items {
        let Item::Mod(module) = item else { continue };
        if module.content.is_some() || is_hidden(&module.attrs) || is_test(&module.attrs) {
            continue;
        }
        let name = module.ident.to_string();
        let (flat, own) = (folder.join(format!("{name}.rs")), folder.join(&name));
        let file = if flat.exists() {
            flat
        } else {
            own.join("mod.rs")
        };
        read(&file, &own, is_public && is_pub(&module.vis), modules);
    }
    modules.push(Module {
        file: file
            .strip_prefix(env!("CARGO_MANIFEST_DIR"))
            .unwrap()
            .display()
            .to_string(),
        is_public,
        items,
    });
}

/// How many public items there are, and which of them have no example.
fn examine(modules: &[Module]) -> (usize, Vec<String>) {
    let mut exported = BTreeSet::new();
    for item in modules.iter().flat_map(|module| &module.items) {
        if let Item::Use(it) = item
            && is_pub(&it.vis)
        {
            exported.extend(leaves(&it.tree).into_iter().map(|(name, _)| name));
        }
    }
    let (mut seen, mut lacking) = (0, Vec::new());
    for module in modules {
        let mut look = |name: &str, attributes: &[Attribute]| {
            if !is_hidden(attributes) {
                seen += 1;
                if !has_example(attributes) {
                    lacking.push(format!("{}: {name}", module.file));
                }
            }
        };
        let is_visible = |vis: &Visibility, name: &str| {
            is_pub(vis) && (module.is_public || exported.contains(name))
        };
        for item in &module.items {
            let (vis, name, attributes) = match item {
                Item::Fn(it) => (&it.vis, &it.sig.ident, &it.attrs),
                Item::Struct(it) => (&it.vis, &it.ident, &it.attrs),
                Item::Enum(it) => (&it.vis, &it.ident, &it.attrs),
                Item::Type(it) => (&it.vis, &it.ident, &it.attrs),
                Item::Trait(it) => (&it.vis, &it.ident, &it.attrs),
                Item::Macro(it) if it.attrs.iter().any(|it| it.path().is_ident("macro_export")) => {
                    let name = it.ident.as_ref().unwrap();
                    look(&format!("{name}!"), &it.attrs);
                    continue;
                }
                // What is generated has no documentation of its own.
                Item::Use(it) if is_pub(&it.vis) && is_generated(&it.tree) => {
                    for (_, name) in leaves(&it.tree) {
                        look(&name, &it.attrs);
                    }
                    continue;
                }
                Item::Impl(it) if it.trait_.is_none() => {
                    let Type::Path(of) = &*it.self_ty else {
                        continue;
                    };
                    let of = of.path.segments.last().unwrap().ident.to_string();
                    if !module.is_public && !exported.contains(&of) {
                        continue;
                    }
                    for method in &it.items {
                        if let ImplItem::Fn(method) = method
                            && is_pub(&method.vis)
                        {
                            look(&format!("{of}::{}", method.sig.ident), &method.attrs);
                        }
                    }
                    continue;
                }
                _ => continue,
            };
            let name = name.to_string();
            if !is_visible(vis, &name) {
                continue;
            }
            look(&name, attributes);
            if let Item::Trait(it) = item {
                for method in &it.items {
                    if let TraitItem::Fn(method) = method {
                        look(&format!("{name}::{}", method.sig.ident), &method.attrs);
                    }
                }
            }
        }
    }
    (seen, lacking)
}

fn is_pub(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

fn is_hidden(attributes: &[Attribute]) -> bool {
    says(attributes, "doc", "hidden")
}

fn is_test(attributes: &[Attribute]) -> bool {
    says(attributes, "cfg", "test")
}

fn says(attributes: &[Attribute], name: &str, word: &str) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident(name) && list.tokens.to_string() == word,
        _ => false,
    })
}

/// Whether there is a code block that runs.
fn has_example(attributes: &[Attribute]) -> bool {
    let mut fences = attributes.iter().filter_map(|attribute| {
        let Meta::NameValue(it) = &attribute.meta else {
            return None;
        };
        let Expr::Lit(value) = &it.value else {
            return None;
        };
        let Lit::Str(text) = &value.lit else {
            return None;
        };
        let line = text.value();
        let fence = it.path.is_ident("doc") && line.trim_start().starts_with("```");
        fence.then(|| line.trim().to_owned())
    });
    // Each other fence opens a block.
    let mut runs = false;
    while let Some(opening) = fences.next() {
        runs |= opening == "```" && fences.next().is_some();
    }
    runs
}

/// Whether it exports what `wit-bindgen` makes.
fn is_generated(tree: &UseTree) -> bool {
    matches!(tree, UseTree::Path(path) if path.ident == "raw")
}

/// The names at the ends of a `use`, as they were and as they are.
fn leaves(tree: &UseTree) -> Vec<(String, String)> {
    match tree {
        UseTree::Path(path) => leaves(&path.tree),
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
        UseTree::Name(name) => vec![(name.ident.to_string(), name.ident.to_string())],
        UseTree::Rename(it) => vec![(it.ident.to_string(), it.rename.to_string())],
        UseTree::Glob(_) => Vec::new(),
    }
}
