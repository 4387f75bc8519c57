//! The parts of the book that are written from the source: fields from the JSON Schemas of the types,
//! functions from the WIT.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

/// Everything that schemas with these titles describe, a section for each of their types.
pub fn fields(schemas: &[(&str, Value)]) -> String {
    let mut page = Fields::default();
    for (title, schema) in schemas {
        let types = schema["$defs"].as_object().cloned().unwrap_or_default();
        page.types.extend(types);
        page.section(title, schema);
        while let Some(name) = page.waiting.pop_front() {
            let schema = page.types[&name].clone();
            page.section(&name, &schema);
        }
    }
    page.page
}

#[derive(Default)]
struct Fields {
    types: Map<String, Value>,
    waiting: VecDeque<String>,
    seen: BTreeSet<String>,
    page: String,
}

impl Fields {
    fn section(&mut self, title: &str, schema: &Value) {
        let _ = writeln!(self.page, "\n## {title}\n");
        if let Some(text) = schema["description"].as_str() {
            let _ = writeln!(self.page, "{}\n", prose(text));
        }
        self.page += "| field | type | default | |\n|---|---|---|---|\n";
        for shape in shapes(schema) {
            let required = shape["required"].as_array().cloned().unwrap_or_default();
            let Some(fields) = shape["properties"].as_object() else {
                continue;
            };
            for (name, field) in fields {
                let default = if required.contains(&Value::from(name.as_str())) {
                    match shapes(schema).len() {
                        1 => "required".to_owned(),
                        _ => String::new(),
                    }
                } else {
                    default(&field["default"])
                };
                let kind = match field["properties"].is_object() {
                    true => self.own(&format!("{title}.{name}"), field),
                    false => self.kind(field),
                };
                let said = field["description"].as_str();
                // A variant is described beside its only field.
                let said = said.or(shape["description"]
                    .as_str()
                    .filter(|_| fields.len() == 1 && shapes(schema).len() > 1));
                let text = prose(said.unwrap_or_default());
                let _ = writeln!(self.page, "| `{name}` | {kind} | {default} | {text} |");
            }
        }
    }

    /// A type that is described where it is used.
    fn own(&mut self, name: &str, schema: &Value) -> String {
        self.types.insert(name.to_owned(), schema.clone());
        self.named(name)
    }

    /// What may be written there.
    fn kind(&mut self, schema: &Value) -> String {
        if let Some(name) = schema["$ref"].as_str() {
            return self.named(name.rsplit('/').next().unwrap_or_default());
        }
        let alternatives = ["anyOf", "oneOf", "allOf"];
        if let Some(choices) = alternatives.iter().find_map(|key| schema[key].as_array()) {
            let kinds: Vec<_> = choices
                .iter()
                .filter(|choice| choice["type"] != "null")
                .map(|choice| self.kind(choice))
                .collect();
            return kinds.join(" or ");
        }
        if let Some(value) = schema.get("const") {
            return format!("`{}`", text(value));
        }
        if let Some(values) = schema["enum"].as_array() {
            let values: Vec<_> = values.iter().filter(|value| !value.is_null()).collect();
            return list(values.iter().map(|value| format!("`{}`", text(value))));
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::String(kind) => vec![kind],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => return "anything".to_owned(),
        };
        match kinds.iter().find(|kind| **kind != "null") {
            Some(&"array") => format!("list of {}", self.kind(&schema["items"])),
            Some(&"object") => match schema.get("additionalProperties") {
                Some(values) if values.is_object() => format!("map to {}", self.kind(values)),
                _ => panic!("an object without a name: {schema}"),
            },
            Some(&"string") => "text".to_owned(),
            Some(&"boolean") => "`true` or `false`".to_owned(),
            Some(_) => "number".to_owned(),
            None => panic!("what is it? {schema}"),
        }
    }

    fn named(&mut self, name: &str) -> String {
        match name {
            "ByteSize" => return "size".to_owned(),
            "Period" => return "duration".to_owned(),
            "CpuShare" => return "share of a core".to_owned(),
            "StartAt" => return "`end`, `beginning` or duration".to_owned(),
            _ => {}
        }
        let schema = self.types[name].clone();
        if shapes(&schema)
            .iter()
            .any(|shape| shape["properties"].is_object())
        {
            if self.seen.insert(name.to_owned()) {
                self.waiting.push_back(name.to_owned());
            }
            return format!("[{name}](#{})", name.to_lowercase().replace('.', ""));
        }
        self.kind(&schema)
    }
}

/// The objects that a schema allows: one, or one for each variant.
fn shapes(schema: &Value) -> Vec<&Value> {
    match schema["oneOf"].as_array() {
        Some(variants) => variants.iter().collect(),
        None => vec![schema],
    }
}

fn default(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // Its own fields say it.
        Value::Object(fields) if !fields.is_empty() => String::new(),
        value => format!("`{}`", text(value)),
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    match items.as_slice() {
        [some @ .., last] if !some.is_empty() => format!("{} or {last}", some.join(", ")),
        items => items.concat(),
    }
}

/// As a cell of a table.
fn prose(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

/// Every interface and world of the WIT files in a folder, with their functions and types.
pub fn contract(folder: &Path) -> String {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut interfaces = BTreeMap::new();
    let mut worlds = BTreeMap::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        read_wit(&file, &text, &mut interfaces, &mut worlds);
    }
    let mut page = String::new();
    for (name, interface) in interfaces {
        let Interface {
            file,
            doc,
            functions,
            types,
        } = interface;
        let link = format!("[{file}](../sdk/wit/{file})");
        let _ = writeln!(page, "\n### {name}\n\n{doc} In {link}.\n");
        page += "| function | |\n|---|---|\n";
        for (signature, doc) in functions {
            let _ = writeln!(page, "| `{signature}` | {doc} |");
        }
        if !types.is_empty() {
            page += "\n| type | | |\n|---|---|---|\n";
        }
        for Type { head, doc, members } in types {
            let _ = writeln!(page, "| `{head}` | {} | {doc} |", members.join("<br>"));
        }
    }
    page += "\n### Worlds\n\n| world | |\n|---|---|\n";
    for (name, doc) in worlds {
        let _ = writeln!(page, "| `{name}` | {doc} |");
    }
    page
}

struct Interface {
    file: String,
    doc: String,
    /// By signature.
    functions: Vec<(String, String)>,
    types: Vec<Type>,
}

/// A record, variant, enum or set of flags.
struct Type {
    head: String,
    doc: String,
    members: Vec<String>,
}

type Interfaces = BTreeMap<String, Interface>;

fn read_wit(
    file: &str,
    text: &str,
    interfaces: &mut Interfaces,
    worlds: &mut BTreeMap<String, String>,
) {
    let mut doc = String::new();
    let mut current = None;
    let mut inside = false;
    for line in text.lines() {
        let code = line.trim();
        if let Some(more) = code.strip_prefix("///") {
            doc += more;
            continue;
        }
        let said = first_sentence(&std::mem::take(&mut doc));
        let head = |word: &str| code.strip_prefix(word)?.strip_suffix(" {");
        let kinds = ["record ", "variant ", "enum ", "flags "];
        if let Some(name) = head("interface ") {
            current = Some(name.to_owned());
            let interface = Interface {
                file: file.to_owned(),
                doc: said,
                functions: Vec::new(),
                types: Vec::new(),
            };
            interfaces.insert(name.to_owned(), interface);
            continue;
        }
        if let Some(name) = head("world ") {
            current = None;
            worlds.insert(name.to_owned(), said);
            continue;
        }
        let Some(interface) = current.as_ref().and_then(|name| interfaces.get_mut(name)) else {
            continue;
        };
        if kinds.iter().any(|kind| head(kind).is_some()) {
            inside = true;
            interface.types.push(Type {
                head: code.trim_end_matches(" {").to_owned(),
                doc: said,
                members: Vec::new(),
            });
        } else if inside && code == "}" {
            inside = false;
        } else if inside && !code.is_empty() && !code.starts_with("//") {
            let member = code.trim_end_matches(',').replace('|', "\\|");
            let members = &mut interface.types.last_mut().unwrap().members;
            members.push(match said.is_empty() {
                true => format!("`{member}`"),
                false => format!("`{member}`: {said}"),
            });
        } else if let Some((function, signature)) = code.split_once(": func") {
            let signature = format!("{function}{}", signature.trim_end_matches(';'));
            let signature = signature.replace('|', "\\|");
            interface.functions.push((signature, said));
        }
    }
}

fn first_sentence(doc: &str) -> String {
    let doc = doc.trim();
    let end = doc.find(". ").map_or(doc.len(), |at| at + 1);
    prose(&doc[..end])
}

/// Every family of a page in the Prometheus text format.
pub fn families(page: &str) -> String {
    let mut kinds = BTreeMap::new();
    let mut helps = BTreeMap::new();
    for line in page.lines() {
        for (word, into) in [("# TYPE ", &mut kinds), ("# HELP ", &mut helps)] {
            if let Some((name, text)) = line.strip_prefix(word).and_then(|it| it.split_once(' ')) {
                into.insert(name.to_owned(), text.to_owned());
            }
        }
    }
    let mut page = "\n| metric | kind | |\n|---|---|---|\n".to_owned();
    for (name, kind) in kinds {
        let help = prose(&helps[&name]);
        let _ = writeln!(page, "| `{name}` | {kind} | {help} |");
    }
    page
}
