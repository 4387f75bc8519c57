//! What `deploy/` makes: the kustomize base by `kubectl kustomize`, the Helm chart by `render.go`.
#![allow(dead_code, unreachable_pub, reason = "as in support/mod.rs")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Objects by kind, namespace and name.
pub type Objects = BTreeMap<String, Value>;

pub const NOTES: &str = "NOTES.txt";

/// A file or folder of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

pub fn read(path: &str) -> String {
    let path = project(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The objects of a text of YAML documents.
pub fn objects(text: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    let mut objects = Objects::new();
    for object in documents.into_iter().filter(|object| !object.is_null()) {
        let metadata = &object["metadata"];
        let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = [
            part(&object["kind"]),
            part(&metadata["namespace"]),
            part(&metadata["name"]),
        ];
        let before = objects.insert(key.join(" "), object);
        assert!(before.is_none(), "twice: {key:?}");
    }
    objects
}

/// What `kubectl apply -k` would apply.
pub fn kustomize(folder: &str) -> Objects {
    let mut command = Command::new("kubectl");
    command.arg("kustomize").arg(project(folder));
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}: run `make setup`"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    objects(&String::from_utf8(output.stdout).unwrap())
}

/// Whether this kubectl is 1.22 or later, which knows components and replacements. Debian's is older.
pub fn knows_components() -> bool {
    let mut kubectl = Command::new("kubectl");
    kubectl.args(["version", "--client", "--output", "json"]);
    let said = kubectl.output().unwrap().stdout;
    let said: Value = serde_json::from_slice(&said).unwrap();
    let minor = said["clientVersion"]["minor"].as_str().unwrap();
    minor.trim_end_matches('+').parse::<u32>().unwrap() >= 22
}

/// A chart with values: the text that each template makes, or why it makes none.
pub fn render(namespace: &str, values: &Value) -> Result<BTreeMap<String, String>, String> {
    let mut command = Command::new(renderer());
    command.arg(project("deploy/helm/bulkhead"));
    command.args(["bulkhead", namespace]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(values.to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// The chart's objects with these values.
pub fn chart(namespace: &str, values: &Value) -> Objects {
    let mut rendered = render(namespace, values).unwrap();
    rendered.remove(NOTES).expect("the chart has notes");
    let texts = rendered.into_values();
    objects(&texts.collect::<Vec<_>>().join("\n---\n"))
}

/// The program that renders, which is built first if it is missing.
pub fn renderer() -> PathBuf {
    let script = project("tests/support/helm/build.sh");
    let made = Command::new(&script).stderr(Stdio::inherit()).output();
    let made = made.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    assert!(
        made.status.success(),
        "the chart cannot be rendered: run `make setup` as root"
    );
    String::from_utf8(made.stdout).unwrap().trim().into()
}
