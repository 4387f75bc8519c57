//! `bulkhead plugin pack`: a module and its manifest as ConfigMaps.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;

use super::sections;
use crate::cli::{Failed, bytes, print};
use crate::manifest::{self, API_VERSION, Document, Identity, KEY, LABEL};
use crate::module;

/// Bytes of a module in one ConfigMap: in base64 and JSON still below 1.5 MiB, which is what etcd takes
/// in one request, and the API server takes 1 MiB of data.
const PART: usize = 768 << 10;
/// The API server takes no more data in a ConfigMap (core/v1 ConfigMap, `data`).
const MOST: usize = 1 << 20;
/// Packed once, fetched by every node.
const LEVEL: i32 = 19;

/// Write a module and its manifest as ConfigMaps, to stdout.
///
/// The module is compressed, and cut into immutable ConfigMaps that nodes fetch when they lack it.
/// Apply them with `kubectl apply --server-side`: without, kubectl would copy them into an annotation,
/// for which they are too large.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead plugin pack my.wasm --name app --spec plugin.yaml | kubectl apply --server-side -f -\n  bulkhead plugin pack my.wasm --name app --inline"
)]
pub(in crate::cli) struct Pack {
    /// The file of a component, or of a zstd frame that holds it.
    module: PathBuf,
    /// What the plugin is called.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The namespace; the one that kubectl is set to unless given.
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// What stands under the key `plugin.yaml`; its `module` is replaced, or added.
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Put the module into the manifest itself, for development: each node gets it with each change.
    #[arg(long)]
    inline: bool,
}

impl Pack {
    pub(in crate::cli) fn execute(self) -> Result<ExitCode, Failed> {
        let failed = |path: &Path, error: &dyn std::fmt::Display| {
            Failed::new(format!("{}: {error}", path.display()))
        };
        let namespace = self.namespace.as_deref().unwrap_or("default");
        Identity::new(namespace, &*self.name).map_err(|error| Failed::new(error.to_string()))?;
        let component =
            module::named(&self.module).map_err(|error| failed(&self.module, &error))?;
        let packed = zstd::encode_all(&*component.bytes, LEVEL)
            .map_err(|error| failed(&self.module, &error))?;
        let spec = match &self.spec {
            Some(path) => std::fs::read_to_string(path).map_err(|error| failed(path, &error))?,
            None => String::new(),
        };
        let sha256 = component.digest.to_string();
        let mut page = String::new();
        let (module, binary_data) = if self.inline {
            if packed.len() + spec.len() > MOST - (64 << 10) {
                return Err(failed(
                    &self.module,
                    &format!(
                        "has {} when compressed, and a ConfigMap holds 1 MiB with all that is in it; leave out --inline",
                        bytes(packed.len() as u64)
                    ),
                ));
            }
            let module =
                format!("module:\n  binaryData: {{key: module.wasm.zst, sha256: {sha256}}}");
            (module, Some(("module.wasm.zst", packed.as_slice())))
        } else {
            let mut names = Vec::new();
            for (i, part) in packed.chunks(PART).enumerate() {
                let name = format!("{}-module-{}-{i}", self.name, &sha256[..12]);
                self.head(&mut page, &name, false);
                page.push_str("immutable: true\n");
                binary(&mut page, "part", part);
                page.push_str("---\n");
                names.push(name);
            }
            let names = names.join(", ");
            let module =
                format!("module:\n  configMapParts:\n    names: [{names}]\n    sha256: {sha256}");
            (module, None)
        };
        // The parts hold nothing that could be wrong, and may be longer than a file of manifests.
        let start = page.len();
        self.head(&mut page, &self.name, true);
        if let Some((key, bytes)) = binary_data {
            binary(&mut page, key, bytes);
        }
        let _ = writeln!(page, "data:\n  {KEY}: |");
        for line in plugin(&spec, &module).lines() {
            let indent = if line.is_empty() { "" } else { "    " };
            let _ = writeln!(page, "{indent}{line}");
        }
        self.check(&page[start..])?;
        print(&page);
        Ok(ExitCode::SUCCESS)
    }

    fn head(&self, page: &mut String, name: &str, labelled: bool) {
        let _ = writeln!(
            page,
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}"
        );
        if let Some(namespace) = &self.namespace {
            let _ = writeln!(page, "  namespace: {namespace}");
        }
        if labelled {
            let _ = writeln!(page, "  labels:\n    {LABEL}: \"true\"");
        }
    }

    /// What is printed shall be a manifest without fault.
    fn check(&self, page: &str) -> Result<(), Failed> {
        let path = self.spec.as_deref().unwrap_or(Path::new("the manifest"));
        for document in manifest::read(path, page.as_bytes()) {
            if let Document::Refused { errors, .. } = document {
                // Places are those of the page, which nobody has seen.
                let errors = errors.into_iter().map(|error| {
                    manifest::Error {
                        position: None,
                        ..error
                    }
                    .to_string()
                });
                let errors: Vec<String> = errors.collect();
                return Err(Failed::new(errors.join("\nerror: ")));
            }
        }
        Ok(())
    }
}

fn binary(page: &mut String, key: &str, bytes: &[u8]) {
    let _ = writeln!(page, "binaryData:\n  {key}: {}", STANDARD.encode(bytes));
}

/// The text of `plugin.yaml` with this module instead of the one that it has.
fn plugin(spec: &str, module: &str) -> String {
    let mut text = String::new();
    if !spec.lines().any(|line| line.starts_with("apiVersion:")) {
        let _ = writeln!(text, "apiVersion: {API_VERSION}\nkind: Plugin");
    }
    text.push_str(spec);
    sections::replace(&text, "module", module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_of_a_spec_is_replaced_and_the_rest_stays() {
        let module = "module:\n  new: 1";
        let spec = "# mine\napiVersion: bulkhead.dev/v1alpha1\nkind: Plugin\nmodule:\n  file:\n    path: a\n\n# limits\nlimits: {memory: 1Mi}\n";
        let expected = "# mine\napiVersion: bulkhead.dev/v1alpha1\nkind: Plugin\nmodule:\n  new: 1\n# limits\nlimits: {memory: 1Mi}\n";
        assert_eq!(plugin(spec, module), expected);
        let added = plugin("config: {}\n", module);
        assert_eq!(
            added,
            "apiVersion: bulkhead.dev/v1alpha1\nkind: Plugin\nconfig: {}\nmodule:\n  new: 1\n"
        );
    }
}
