//! From a manifest to an instance that is ready to serve: fetch, verify, compile, link, instantiate,
//! describe, check the configuration, init, set up and probe. The revision at work is not touched.

use std::sync::Arc;

use jiff::Timestamp;
use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use wasmtime::component::Component;

use super::actor::Declaration;
use super::marks::Slot;
use super::status::Revision;
use crate::manifest::{Manifest, Module as ManifestModule};
use crate::module::{self, Cache, CacheError, CompileError, Digest, FetchError, Module, Parts};
use crate::sandbox::{Blueprint, Cause, Environment, Failure, Instance, Prepare, Role, Sandbox};

/// The largest configuration schema, in bytes.
const SCHEMA_BYTES: usize = 256 << 10;
/// The most that is said of one configuration.
const PROBLEMS: usize = 10;

/// Why a revision does not come to work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Rejection {
    /// The manifest or the module must change before another try makes sense.
    #[error("{0}")]
    Refused(String),
    /// The plugin failed; another try may succeed.
    #[error("{0}")]
    Failed(Failure),
}

impl From<Failure> for Rejection {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A revision with a live instance.
pub(super) struct Prepared {
    pub(super) manifest: Arc<Manifest>,
    pub(super) blueprint: Blueprint,
    pub(super) instance: Instance,
    pub(super) revision: Revision,
}

/// What preparing needs from the daemon; cheap to clone.
#[derive(Clone)]
pub(super) struct Preparer {
    pub(super) sandbox: Sandbox,
    pub(super) cache: Cache,
    pub(super) environment: Environment,
    pub(super) roles: Vec<(Role, Prepare)>,
    pub(super) slot: Slot,
    /// Who has the parts of modules; nobody without a cluster.
    pub(super) parts: Option<Arc<dyn Parts>>,
}

/// What preparing tells of, while it goes on.
pub(super) trait Progress: Send + Sync {
    /// The module's digest is known.
    fn found(&self, digest: Digest);
    /// The module is not there yet, for this reason; it is asked for again.
    fn waits(&self, why: String);
}

/// Nobody listens.
impl Progress for () {
    fn found(&self, _: Digest) {}
    fn waits(&self, _: String) {}
}

impl Preparer {
    /// Prepares a revision from its manifest.
    pub(super) async fn candidate(
        &self,
        declared: Declaration,
        progress: &dyn Progress,
    ) -> Result<Prepared, Rejection> {
        let file = declared.manifest.origin.name().to_owned();
        self.unplaced(declared, progress)
            .await
            .map_err(|rejection| match rejection {
                Rejection::Refused(message) => {
                    Rejection::Refused(format!("{}: {message}", file.display()))
                }
                failed => failed,
            })
    }

    /// As [`Self::candidate`], with refusals that do not name the manifest's file.
    async fn unplaced(
        &self,
        declared: Declaration,
        progress: &dyn Progress,
    ) -> Result<Prepared, Rejection> {
        let manifest = declared.manifest.clone();
        let module = match &manifest.spec.module {
            ManifestModule::ConfigMapParts { names, sha256 } => {
                self.parts(&manifest, names, sha256, progress).await?
            }
            _ => None,
        };
        let this = self.clone();
        let task = tokio::task::spawn_blocking(move || this.compile(&manifest, module));
        let (digest, blueprint) = task
            .await
            .map_err(|error| Rejection::Refused(format!("module: compiling failed: {error}")))??;
        progress.found(digest);
        crate::failpoint::hit("update.compiled");
        self.instantiate(declared, blueprint, digest).await
    }

    /// The parts of a module, unless its compiled form is here.
    async fn parts(
        &self,
        manifest: &Manifest,
        names: &[String],
        sha256: &str,
        progress: &dyn Progress,
    ) -> Result<Option<Vec<u8>>, Rejection> {
        let refused = |message: String| Rejection::Refused(message);
        if let Some(digest) = Digest::parse(sha256) {
            let (cache, engine) = (self.cache.clone(), self.sandbox.engine().clone());
            let found = move || cache.find(&engine, digest).is_some();
            let found = tokio::task::spawn_blocking(found).await;
            if found.map_err(|error| refused(error.to_string()))? {
                return Ok(None);
            }
        }
        let Some(parts) = &self.parts else {
            return Err(refused(FetchError::NoCluster.to_string()));
        };
        let namespace = manifest.identity.namespace();
        let failed = |error: &module::PartError| progress.waits(error.to_string());
        let bytes = module::gather(&**parts, namespace, names, failed).await;
        bytes.map(Some).map_err(|error| refused(error.to_string()))
    }

    /// `parts` are the module's bytes if they came from elsewhere.
    fn compile(
        &self,
        manifest: &Manifest,
        parts: Option<Vec<u8>>,
    ) -> Result<(Digest, Blueprint), Rejection> {
        let refused = |error: &dyn std::error::Error| Rejection::Refused(error.to_string());
        let engine = self.sandbox.engine();
        let (digest, component) = match (&manifest.spec.module, parts) {
            (ManifestModule::ConfigMapParts { sha256, .. }, None) => {
                let known = Digest::parse(sha256);
                let found =
                    known.and_then(|digest| Some((digest, self.cache.find(engine, digest)?)));
                // Looked at just now: it can only have been thrown away since, as broken.
                found.ok_or_else(|| {
                    let why = "module: its compiled form was lost just now".to_owned();
                    Rejection::Failed(Failure::new("compile", Cause::Interrupted, why))
                })?
            }
            (ManifestModule::ConfigMapParts { sha256, .. }, Some(parts)) => {
                let module = module::assemble(parts, sha256).map_err(|error| refused(&error))?;
                (module.digest, self.compiled(&module)?)
            }
            _ => {
                let module = module::fetch(manifest).map_err(|error| refused(&error))?;
                (module.digest, self.compiled(&module)?)
            }
        };
        let spec = &manifest.spec;
        let blueprint = self
            .sandbox
            .link(&component, &spec.grants, &spec.limits)
            .map_err(|error| refused(&error))?;
        Ok((digest, blueprint))
    }

    fn compiled(&self, module: &Module) -> Result<Component, Rejection> {
        let compiled = self.cache.get(self.sandbox.engine(), module);
        compiled.map_err(|error| match &error {
            CacheError::Compile {
                reason: CompileError::Interrupted(_),
                ..
            } => Rejection::Failed(Failure::new(
                "compile",
                Cause::Interrupted,
                error.to_string(),
            )),
            _ => Rejection::Refused(error.to_string()),
        })
    }

    /// Makes an instance of a revision ready to serve.
    pub(super) async fn instantiate(
        &self,
        declared: Declaration,
        blueprint: Blueprint,
        digest: Digest,
    ) -> Result<Prepared, Rejection> {
        let Declaration { manifest, hash } = declared;
        let _in_call = self.slot.enter();
        let mut environment = self.environment.clone();
        environment.journal = environment.journal.from_level(manifest.spec.log_level);
        if manifest.spec.grants.state.is_none() {
            environment.state = None;
        }
        let mut instance = blueprint.instantiate(&environment).await?;
        let description = instance.describe().await?;
        if description.name.len() > 128 || description.version.len() > 64 {
            return Err(Rejection::Refused(
                "module: describe returned a name over 128 or a version over 64 bytes".into(),
            ));
        }
        check_config(&description.config_schema, &manifest.spec.config.value())
            .map_err(Rejection::Refused)?;
        let config = manifest.spec.config.json().to_owned();
        if let Err(refusal) = instance.init(config).await? {
            return Err(Rejection::Refused(in_config(
                &refusal.field,
                &refusal.message,
            )));
        }
        let roles = blueprint.interfaces().roles.clone();
        let spec = &manifest.spec;
        for (role, given) in [
            (Role::Logs, spec.logs.is_some()),
            (Role::Metrics, spec.metrics.is_some()),
            (Role::Enforcement, spec.enforcement.is_some()),
            (Role::Scanning, spec.scanning.is_some()),
        ] {
            if given && !roles.contains(&role) {
                let name = role.name();
                return Err(Rejection::Refused(format!(
                    "{name}: the module has not the role {name}; remove `{name}:`, or name another module"
                )));
            }
        }
        // Roles may remember what this module did.
        instance.note(digest);
        for (role, prepare) in &self.roles {
            if roles.contains(role)
                && let Err(message) = prepare(&manifest, &mut instance).await?
            {
                return Err(Rejection::Refused(message));
            }
        }
        crate::failpoint::hit("update.prepared");
        let revision = Revision {
            digest,
            manifest: hash,
            name: description.name,
            version: description.version,
            roles,
            since: Timestamp::now(),
        };
        Ok(Prepared {
            manifest,
            blueprint,
            instance,
            revision,
        })
    }
}

fn in_config(field: &str, message: &str) -> String {
    match field.chars().next() {
        None => format!("config: {message}"),
        Some('[') => format!("config{field}: {message}"),
        Some(_) => format!("config.{field}: {message}"),
    }
}

/// Checks a manifest's `config` against the schema that the plugin gave.
///
/// The schema comes from the guest: it is bounded, references leave it never, and its patterns
/// run on an engine without backtracking.
///
/// # Errors
/// What is wrong and where, for people.
pub fn check_config(schema: &str, config: &serde_json::Value) -> Result<(), String> {
    if schema.is_empty() {
        return Ok(());
    }
    if schema.len() > SCHEMA_BYTES {
        return Err(format!(
            "module: the configuration schema is larger than {} KiB",
            SCHEMA_BYTES >> 10
        ));
    }
    let schema: serde_json::Value = serde_json::from_str(schema)
        .map_err(|error| format!("module: the configuration schema is not JSON: {error}"))?;
    let validator = jsonschema::draft202012::options()
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .build(&schema)
        .map_err(|error| format!("module: the configuration schema is invalid: {error}"))?;
    let mut problems = Vec::new();
    for error in validator.iter_errors(config) {
        tell(&error, &schema, &mut problems);
        if problems.len() >= PROBLEMS {
            break;
        }
    }
    problems.truncate(PROBLEMS);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("\n")),
    }
}

/// Says what is wrong, a line each. Of an optional value that is there it says what is wrong with that, and
/// not that it is neither right nor missing.
fn tell(error: &ValidationError<'_>, schema: &serde_json::Value, problems: &mut Vec<String>) {
    let path = error.instance_path().as_str();
    let remedy = match error.kind() {
        ValidationErrorKind::AnyOf { context } => {
            let of_another_type = |it: &ValidationError<'_>| {
                let is_type = matches!(it.kind(), ValidationErrorKind::Type { .. });
                is_type && it.instance_path().as_str() == path
            };
            let mut meant = context.iter().filter(|it| !it.iter().any(of_another_type));
            if let (Some(meant), None) = (meant.next(), meant.next()) {
                for error in meant {
                    tell(error, schema, problems);
                }
                return;
            }
            String::new()
        }
        ValidationErrorKind::AdditionalProperties { .. } => {
            allowed(schema, error.schema_path().as_str())
        }
        _ => String::new(),
    };
    problems.push(in_config(&dotted(path), &format!("{error}{remedy}")));
}

/// The fields that the object has whose `additionalProperties` at `pointer` refused one.
fn allowed(schema: &serde_json::Value, pointer: &str) -> String {
    let object = pointer.strip_suffix("/additionalProperties");
    let fields = object.and_then(|object| schema.pointer(object)?.get("properties")?.as_object());
    match fields {
        Some(fields) if !fields.is_empty() => {
            let names: Vec<&str> = fields.keys().map(String::as_str).take(32).collect();
            format!("; the fields here are: {}", names.join(", "))
        }
        _ => String::new(),
    }
}

/// `/filters/2/pattern` as `filters[2].pattern`.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() {
            path.push_str(&format!("[{part}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&part);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn names_the_field() {
        let schema = json!({
            "type": "object",
            "properties": {"filters": {"type": "array", "items": {
                "type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false
            }}},
            "additionalProperties": false
        })
        .to_string();
        assert_eq!(
            check_config(&schema, &json!({"filters": [{"n": 1}]})),
            Ok(())
        );
        let error = check_config(&schema, &json!({"filters": [{"n": "x"}]})).unwrap_err();
        assert!(error.starts_with("config.filters[0].n: "), "{error}");
        let error = check_config(&schema, &json!({"filter": []})).unwrap_err();
        assert!(error.contains("'filter'"), "{error}");
        assert!(error.ends_with("; the fields here are: filters"), "{error}");
        let schema = json!({
            "properties": {"a": {"$ref": "#/$defs/A"}},
            "$defs": {"A": {"properties": {"x": {}, "y": {}}, "additionalProperties": false}}
        })
        .to_string();
        let error = check_config(&schema, &json!({"a": {"z": 1}})).unwrap_err();
        assert!(error.ends_with("; the fields here are: x, y"), "{error}");
    }

    #[test]
    fn says_what_is_wrong_with_an_optional_value() {
        let schema = json!({
            "properties": {"file": {"anyOf": [{"$ref": "#/$defs/File"}, {"type": "null"}]}},
            "$defs": {"File": {
                "type": "object",
                "properties": {"mode": {"anyOf": [{"type": "string", "pattern": "^[0-7]{3,4}$"}, {"type": "null"}]}},
                "additionalProperties": false
            }}
        })
        .to_string();
        let error = check_config(&schema, &json!({"file": {"mode": "0899"}})).unwrap_err();
        assert!(
            error.starts_with("config.file.mode: \"0899\" does not match"),
            "{error}"
        );
        let error = check_config(&schema, &json!({"file": {"modes": "0644"}})).unwrap_err();
        assert!(error.starts_with("config.file: "), "{error}");
        assert!(error.ends_with("; the fields here are: mode"), "{error}");
        let error = check_config(&schema, &json!({"file": 7})).unwrap_err();
        assert!(error.starts_with("config.file: 7 is not valid"), "{error}");
    }

    #[test]
    fn survives_hostile_schemas() {
        let looped = r##"{"$ref":"#"}"##;
        let _ = check_config(looped, &json!({}));
        let looped =
            r##"{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}"##;
        let _ = check_config(looped, &json!({"x": 1}));
        let looped = r##"{"allOf":[{"$ref":"#"}],"anyOf":[{"$ref":"#"}]}"##;
        let _ = check_config(looped, &json!({"x": 1}));
        let remote = r#"{"$ref":"http://127.0.0.1:1/schema.json"}"#;
        assert!(check_config(remote, &json!({})).is_err());
        let pattern = r#"{"type":"string","pattern":"^(a+)+$"}"#;
        assert!(check_config(pattern, &json!("a".repeat(4000) + "b")).is_err());
        let deep = "[".repeat(100_000);
        assert!(check_config(&deep, &json!({})).is_err());
    }
}
