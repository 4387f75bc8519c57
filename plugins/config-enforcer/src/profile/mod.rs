//! Profiles: collections of rules that come with the plugin, written as resources are, with parameters.

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

use std::collections::BTreeMap;

use bulkhead_sdk::{Context, Error, Result, bail};
use serde_json::{Map, Value};

use crate::config::{Handler, ProfileUse, Resource};
use crate::yaml;

/// Name and text of each.
const PROFILES: &[(&str, &str)] = &[
    (
        "host-hardening",
        include_str!("../../profiles/host-hardening.yaml"),
    ),
    (
        "kubelet-hardening",
        include_str!("../../profiles/kubelet-hardening.yaml"),
    ),
];

/// What a profile adds to the configuration.
pub(crate) struct Expanded {
    pub(crate) handlers: Vec<Handler>,
    pub(crate) resources: Vec<Resource>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    #[serde(default)]
    handlers: Vec<Handler>,
    rules: Vec<Map<String, Value>>,
}

/// The rules of a profile, as the configuration wants them.
pub(crate) fn expand(profile: &ProfileUse) -> Result<Expanded> {
    let Some((name, text)) = PROFILES.iter().find(|(name, _)| *name == profile.name) else {
        let names: Vec<&str> = PROFILES.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "there is no profile {:?}; there are {}",
            profile.name,
            names.join(", ")
        );
        return Err(Error::new(message).at("name"));
    };
    let document = yaml::parse(text)?.root.context("the profile is empty")?;
    let parsed: Profile = serde_path_to_error::deserialize(document.value()?)
        .with_place(&format!("profile {name}"))?;
    let ids: Vec<&str> = parsed.rules.iter().filter_map(id).collect();
    let known = |rule: &String| match ids.contains(&rule.as_str()) {
        true => Ok(()),
        false => Err(Error::new(format!("the profile has no rule {rule:?}"))),
    };
    for (field, list) in [("exclude", &profile.exclude), ("only", &profile.only)] {
        for (index, rule) in list.iter().enumerate() {
            known(rule).at(format!("[{index}]")).at(field)?;
        }
    }
    for rule in profile.set.keys() {
        known(rule).at("set")?;
    }
    let is_wanted = |rule: &str| {
        let listed = |list: &[String]| list.iter().any(|it| it == rule);
        !listed(&profile.exclude) && (profile.only.is_empty() || listed(&profile.only))
    };
    let prefixed = |id: &str| format!("{name}/{id}");
    let mut resources = Vec::new();
    for rule in parsed.rules {
        let Some(id) = id(&rule).map(str::to_owned) else {
            bail!("profile {name}: a rule without an id");
        };
        if !is_wanted(&id) {
            continue;
        }
        let rule = parametrised(rule, profile.set.get(&id))
            .at(id.as_str())
            .at("set")?;
        let mut resource: Resource = serde_path_to_error::deserialize(Value::Object(rule))
            .with_place(&format!("{name}/{id}"))?;
        resource.id = prefixed(&id);
        resource.check_only |= profile.check_only;
        for name in resource.depends_on.iter_mut().chain(&mut resource.notify) {
            *name = prefixed(name);
        }
        // What is left out is nothing to wait for.
        resource
            .depends_on
            .retain(|other| other.split_once('/').is_some_and(|(_, id)| is_wanted(id)));
        resources.push(resource);
    }
    let handlers = parsed.handlers.into_iter().map(|mut handler| {
        handler.id = prefixed(&handler.id);
        handler
    });
    Ok(Expanded {
        handlers: handlers.collect(),
        resources,
    })
}

fn id(rule: &Map<String, Value>) -> Option<&str> {
    rule.get("id").and_then(Value::as_str)
}

/// Puts parameters in: a string `${name}` becomes the parameter's value, and inside of a longer string
/// its text.
fn parametrised(
    mut rule: Map<String, Value>,
    set: Option<&Map<String, Value>>,
) -> Result<Map<String, Value>> {
    let mut params: BTreeMap<String, Value> = match rule.remove("params") {
        Some(Value::Object(defaults)) => defaults.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    for (name, value) in set.into_iter().flatten() {
        match params.get_mut(name) {
            None => {
                let names: Vec<&str> = params.keys().map(String::as_str).collect();
                let known = match names.is_empty() {
                    true => "it has none".to_owned(),
                    false => format!("it has {}", names.join(", ")),
                };
                let message = format!("the rule has no such parameter; {known}");
                return Err(Error::new(message).at(name.as_str()));
            }
            // A parameter keeps its type, so that a typing error is found here.
            Some(known) if kind(known) != kind(value) => {
                let message = format!("is {}; it must be {}", kind(value), kind(known));
                return Err(Error::new(message).at(name.as_str()));
            }
            Some(known) => *known = value.clone(),
        }
    }
    for value in rule.values_mut() {
        put_in(value, &params)?;
    }
    Ok(rule)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn put_in(value: &mut Value, params: &BTreeMap<String, Value>) -> Result<()> {
    match value {
        Value::String(text) => {
            let whole = text.strip_prefix("${").and_then(|it| it.strip_suffix('}'));
            if let Some(param) = whole.and_then(|name| params.get(name)) {
                *value = param.clone();
                return Ok(());
            }
            for (name, param) in params {
                let param = match param {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                *text = text.replace(&format!("${{{name}}}"), &param);
            }
            if text.contains("${") {
                bail!("{text:?} has a parameter that is not declared");
            }
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| put_in(item, params))?,
        Value::Object(map) => map.values_mut().try_for_each(|item| put_in(item, params))?,
        _ => {}
    }
    Ok(())
}

trait WithPlace<T> {
    /// The error with the place in the document that it is about, below `place`.
    fn with_place(self, place: &str) -> Result<T>;
}

impl<T> WithPlace<T> for Result<T, serde_path_to_error::Error<serde_json::Error>> {
    fn with_place(self, place: &str) -> Result<T> {
        self.map_err(|error| {
            let path = error.path().to_string();
            Error::new(format!("{place}: {path}: {}", error.into_inner()))
        })
    }
}
