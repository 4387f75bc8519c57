//! What `bulkhead plugin new` puts into a crate: the SDK's sources as a crate that stands alone, and the
//! versions of its dependencies that this workspace was built and tested with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

type Failed = Box<dyn std::error::Error>;

/// What a plugin's crate depends on beside the SDK.
const BESIDE: [&str; 2] = ["schemars", "serde"];

/// How a dependency is written that the workspace names and a feature brings.
const OPTIONAL: &str = "{ workspace = true, optional = true }";

/// Writes `sdk.rs`, which `cli::plugin::sdk` includes.
pub(crate) fn embed(root: &Path, out: &Path) -> Result<(), Failed> {
    let workspace = fs::read_to_string(root.join("Cargo.toml"))?;
    let manifest = fs::read_to_string(root.join("sdk/Cargo.toml"))?;
    let lock = fs::read_to_string(root.join("Cargo.lock"))?;
    let alone = out.join("sdk-Cargo.toml");
    fs::write(&alone, stand_alone(&manifest, &workspace)?)?;
    let mut files = vec![("Cargo.toml".to_owned(), alone)];
    for folder in ["src", "wit"] {
        collect(&root.join("sdk").join(folder), folder, &mut files)?;
    }
    let mut list = "pub(super) static FILES: &[(&str, &[u8])] = &[\n".to_owned();
    for (name, path) in &files {
        let path = fs::canonicalize(path)?;
        writeln!(list, "    ({name:?}, include_bytes!({path:?})),")?;
    }
    list.push_str("];\n");
    let mut dependencies = String::new();
    for name in BESIDE {
        writeln!(
            dependencies,
            "{name} = {}",
            value(&workspace, "workspace.dependencies", name)?
        )?;
    }
    let development = section(&manifest, "dev-dependencies");
    // As long as no plugin asks for them, they are in no lock.
    let optional = section(&manifest, "dependencies").filter(|line| line.contains(OPTIONAL));
    let unused = development.chain(optional);
    let unused = unused.filter_map(|line| line.split(['.', ' ']).next());
    let (direct, packages) = locked(&lock, &unused.collect())?;
    writeln!(
        list,
        "pub(super) static DEPENDENCIES: &str = {dependencies:?};"
    )?;
    writeln!(
        list,
        "pub(super) static LOCKED_DIRECTLY: &[&str] = &{direct:?};"
    )?;
    writeln!(
        list,
        "pub(super) static LOCKED: &[(&str, &str)] = &{packages:?};"
    )?;
    fs::write(out.join("sdk.rs"), list)?;
    Ok(())
}

fn collect(folder: &Path, name: &str, files: &mut Vec<(String, PathBuf)>) -> Result<(), Failed> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    entries.sort();
    for path in entries {
        let last = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{name}/{last}");
        match path.is_dir() {
            true => collect(&path, &name, files)?,
            false => files.push((name, path)),
        }
    }
    Ok(())
}

/// The lines of a table, without comments.
fn section<'a>(toml: &'a str, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let head = format!("[{name}]");
    let lines = toml.lines().skip_while(move |line| *line != head).skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// What stands behind `key =` in a table.
fn value<'a>(toml: &'a str, table: &str, key: &str) -> Result<&'a str, Failed> {
    let mut lines = section(toml, table).filter_map(|line| line.split_once(" = "));
    let found = lines.find_map(|(known, value)| (known == key).then_some(value));
    found.ok_or_else(|| format!("Cargo.toml: no {key} in [{table}]").into())
}

/// The SDK's manifest without what it inherits, and without what only its own tests and lints need.
fn stand_alone(manifest: &str, workspace: &str) -> Result<String, Failed> {
    let mut alone = String::new();
    let mut table = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            table = line;
        }
        if ["[dev-dependencies]", "[lints]"].contains(&table) {
            continue;
        }
        if let Some(key) = line.strip_suffix(OPTIONAL) {
            let key = key.trim_end_matches(" = ");
            let value = value(workspace, "workspace.dependencies", key)?;
            let value = match value.strip_prefix('{') {
                Some(members) => format!("{{ optional = true,{members}"),
                None => format!("{{ optional = true, version = {value} }}"),
            };
            writeln!(alone, "{key} = {value}")?;
            continue;
        }
        match line.split_once(".workspace = true") {
            Some((key, "")) => {
                let inherited = match table {
                    "[package]" => "workspace.package",
                    _ => "workspace.dependencies",
                };
                writeln!(alone, "{key} = {}", value(workspace, inherited, key)?)?;
            }
            _ => writeln!(alone, "{line}")?,
        }
    }
    // It is nobody's member, wherever it lies.
    alone.push_str("[workspace]\n");
    Ok(alone)
}

/// The packages of the lock that a plugin needs, with their text, and which of them its crate names.
#[allow(clippy::type_complexity, reason = "written out once, two lines below")]
fn locked(
    lock: &str,
    unused: &BTreeSet<&str>,
) -> Result<(Vec<String>, Vec<(String, String)>), Failed> {
    let mut packages: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for block in lock.split("[[package]]\n").skip(1) {
        let field = |key: &str| {
            let mut lines = block.lines().filter_map(|line| line.strip_prefix(key));
            lines.next().map(|value| value.trim_matches('"').to_owned())
        };
        let name = field("name = ").ok_or("Cargo.lock: a package without a name")?;
        let version = field("version = ").ok_or("Cargo.lock: a package without a version")?;
        let of_sdk = name == "bulkhead-sdk";
        let mut text = "[[package]]\n".to_owned();
        let mut needs = Vec::new();
        for line in block.trim_end().lines() {
            if let Some(need) = line.strip_prefix(" \"") {
                let need = need.trim_end_matches("\",");
                if of_sdk && unused.contains(need) {
                    continue;
                }
                needs.push(need.to_owned());
            }
            writeln!(text, "{line}")?;
        }
        let id = format!("{name} {version}");
        named.entry(name).or_default().push(id.clone());
        packages.insert(id, (text, needs));
    }
    // A dependency is named by its version too where there are several.
    let find = |need: &str| -> Result<String, Failed> {
        match named.get(need).map(Vec::as_slice) {
            Some([only]) => Ok(only.clone()),
            _ if packages.contains_key(need) => Ok(need.to_owned()),
            _ => Err(format!("Cargo.lock: which {need} is meant?").into()),
        }
    };
    let mut direct = vec!["bulkhead-sdk".to_owned()];
    direct.extend(BESIDE.map(str::to_owned));
    let mut wanted = direct.clone();
    let mut found = BTreeSet::new();
    while let Some(need) = wanted.pop() {
        let id = find(&need)?;
        if let Some((_, needs)) = packages.get(&id)
            && found.insert(id)
        {
            wanted.extend(needs.iter().cloned());
        }
    }
    let of = |id: &String| {
        Some((
            id.split(' ').next()?.to_owned(),
            packages.get(id)?.0.clone(),
        ))
    };
    Ok((direct, found.iter().filter_map(of).collect()))
}
