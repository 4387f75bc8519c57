//! From the configuration to the [`Model`]: everything checked and compiled that does not need a node.

mod conflict;
mod graph;
mod kinds;
mod make;
mod paths;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

use std::collections::{HashMap, HashSet};

use bulkhead_sdk::enforcement::{Outline, Rule, RuleId, WantId};
use bulkhead_sdk::{Context, Error, Result, bail};

use crate::config::{Config, Handler, HandlerAction, Resource, Severity};
use crate::expression::{Condition, Templates};
use crate::profile;

pub(crate) use kinds::{
    Absence, Content, EditFile, Kind, Lookout, PermissionRule, SysctlRule, Whole,
};

/// The configuration, compiled.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) templates: Templates,
    pub(crate) items: Vec<Item>,
    /// In an order in which each comes after those that it waits for.
    pub(crate) steps: Vec<Step>,
    pub(crate) handlers: Vec<Trigger>,
    /// What of permissions is said for one path: it comes before what is said for many.
    pub(crate) special: HashMap<String, Said>,
}

/// A resource.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) when: Option<Condition>,
    pub(crate) kind: Kind,
    pub(crate) depends_on: Vec<usize>,
    pub(crate) notify: Vec<usize>,
    pub(crate) check_only: bool,
    /// Known once the outline is made, which comes before the first plan.
    pub(crate) rule: Option<RuleId>,
    about: About,
    /// Where it stands in the configuration.
    at: String,
}

#[derive(Debug)]
struct About {
    title: String,
    severity: Severity,
    rationale: String,
    remediation: String,
}

/// Resources about the same thing, which are looked at together and changed at once.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) subject: Subject,
    /// In the order in which they are applied.
    pub(crate) items: Vec<usize>,
    /// Steps to wait for.
    pub(crate) after: Vec<usize>,
    /// Pairs that cannot both be had, and why. They are refused at once unless conditions may keep them
    /// apart.
    pub(crate) conflicts: Vec<(usize, usize, String)>,
}

/// What a step is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Path(String),
    Sysctl(String),
    Module(String),
    Unit(String),
    /// What one resource says of many paths.
    Item(usize),
}

/// A handler.
#[derive(Debug)]
pub(crate) struct Trigger {
    pub(crate) id: String,
    pub(crate) units: Vec<String>,
    pub(crate) action: HandlerAction,
}

/// Which permissions are given.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Said {
    pub(crate) mode: bool,
    pub(crate) owner: bool,
    pub(crate) group: bool,
}

impl Model {
    /// What the plugin is about. The numbers of rules are those that the items have.
    pub(crate) fn outline(&mut self) -> Outline {
        let mut outline = Outline::new();
        for item in &mut self.items {
            let rule = Rule::new(&item.id, &item.about.title)
                .severity(item.about.severity.into())
                .rationale(&item.about.rationale)
                .remediation(&item.about.remediation);
            item.rule = Some(outline.rule(rule));
            item.kind.want(&mut outline);
        }
        for unit in self.handlers.iter().flat_map(|handler| &handler.units) {
            outline.want_unit(unit);
        }
        outline
    }
}

/// A resource, and where it comes from.
struct Source {
    at: String,
    resource: Resource,
}

/// Compiles the configuration.
pub(crate) fn compile(config: Config) -> Result<Model> {
    let mut templates = Templates::new(&config.vars);
    let (sources, handlers) = gather(config)?;
    let mut ids = HashMap::new();
    for (index, source) in sources.iter().enumerate() {
        let id = &source.resource.id;
        check_id(id).at("id").at(&source.at)?;
        if ids.insert(id.clone(), index).is_some() {
            let message = format!("another resource has the id {id:?}");
            return Err(Error::new(message).at("id").at(&source.at));
        }
    }
    let mut handler_ids = HashMap::new();
    for (index, (at, handler)) in handlers.iter().enumerate() {
        check_handler(handler).at(at)?;
        if handler_ids.insert(handler.id.clone(), index).is_some() {
            let message = format!("another handler has the id {:?}", handler.id);
            return Err(Error::new(message).at("id").at(at));
        }
    }
    let mut items = Vec::with_capacity(sources.len());
    for (index, source) in sources.into_iter().enumerate() {
        let Source { at, resource } = source;
        let item = compile_item(index, &at, resource, &ids, &handler_ids, &mut templates);
        items.push(item.at(at)?);
    }
    let handlers: Vec<Trigger> = handlers
        .into_iter()
        .map(|(_, handler)| Trigger {
            units: handler.unit.names().to_vec(),
            id: handler.id,
            action: handler.action,
        })
        .collect();
    let units: usize = handlers.iter().map(|handler| handler.units.len()).sum();
    let wants = units + items.iter().map(|item| item.kind.wants()).sum::<usize>();
    if wants > 8192 {
        bail!("the resources look at {wants} things of the node; there may be 8192");
    }
    let steps = graph::steps(&items, &handlers)?;
    let mut special: HashMap<String, Said> = HashMap::new();
    for item in &items {
        if let (Some(path), Some(permissions)) = (item.kind.path(), item.kind.permissions()) {
            let said = special.entry(path.to_owned()).or_default();
            said.mode |= permissions.mode.is_some() || permissions.max_mode.is_some();
            said.owner |= permissions.owner.is_some();
            said.group |= permissions.group.is_some();
        }
    }
    Ok(Model {
        templates,
        items,
        steps,
        handlers,
        special,
    })
}

type Handlers = Vec<(String, Handler)>;

/// All resources and handlers, those of profiles first.
fn gather(config: Config) -> Result<(Vec<Source>, Handlers)> {
    let mut sources = Vec::new();
    let mut handlers = Vec::new();
    let mut names = HashSet::new();
    for (index, profile) in config.profiles.iter().enumerate() {
        let at = format!("profiles[{index}]");
        if !names.insert(&profile.name) {
            let message = format!("the profile {:?} is used twice", profile.name);
            return Err(Error::new(message).at(at));
        }
        let expanded = profile::expand(profile).at(&at)?;
        sources.extend(expanded.resources.into_iter().map(|resource| Source {
            at: at.clone(),
            resource,
        }));
        handlers.extend(expanded.handlers.into_iter().map(|it| (at.clone(), it)));
    }
    for (index, resource) in config.resources.into_iter().enumerate() {
        let at = format!("resources[{index}]");
        sources.push(Source { at, resource });
    }
    for (index, handler) in config.handlers.into_iter().enumerate() {
        handlers.push((format!("handlers[{index}]"), handler));
    }
    if sources.len() > 4096 {
        bail!("{} rules; there may be 4096", sources.len());
    }
    Ok((sources, handlers))
}

fn compile_item(
    index: usize,
    at: &str,
    resource: Resource,
    ids: &HashMap<String, usize>,
    handlers: &HashMap<String, usize>,
    templates: &mut Templates,
) -> Result<Item> {
    let find = |names: &[String], known: &HashMap<String, usize>, what: &str, field: &str| {
        let mut found = Vec::new();
        for (position, name) in names.iter().enumerate() {
            let Some(other) = known.get(name) else {
                let message = format!("there is no {what} {name:?}");
                return Err(Error::new(message).at(format!("{field}[{position}]")));
            };
            found.push(*other);
        }
        Ok(found)
    };
    let depends_on = find(&resource.depends_on, ids, "resource", "dependsOn")?;
    if let Some(position) = depends_on.iter().position(|other| *other == index) {
        let message = "a resource cannot depend on itself";
        return Err(Error::new(message).at(format!("dependsOn[{position}]")));
    }
    let notify = find(&resource.notify, handlers, "handler", "notify")?;
    let when = resource.when.as_ref().map(|it| templates.condition(it));
    let when = when.transpose().at("when")?;
    let kind = Kind::new(&resource, templates)?;
    if matches!(kind, Kind::Lookout(_)) && !notify.is_empty() {
        return Err(Error::new("a check changes nothing, so it notifies nobody").at("notify"));
    }
    let title = match resource.title.as_str() {
        "" => shorten(&kind.title(), 256),
        title => title.to_owned(),
    };
    check_text(&title, 256).at("title")?;
    for (field, text) in [
        ("rationale", &resource.rationale),
        ("remediation", &resource.remediation),
    ] {
        if text.len() > 2048 {
            return Err(Error::new("is longer than 2048 bytes").at(field));
        }
    }
    Ok(Item {
        id: resource.id,
        when,
        kind,
        depends_on,
        notify,
        check_only: resource.check_only,
        rule: None,
        about: About {
            title,
            severity: resource.severity,
            rationale: resource.rationale,
            remediation: resource.remediation,
        },
        at: at.to_owned(),
    })
}

fn check_id(id: &str) -> Result<()> {
    if id.is_empty() {
        bail!("is empty");
    }
    check_text(id, 128)
}

fn check_text(text: &str, longest: usize) -> Result<()> {
    if text.len() > longest || text.contains(char::is_control) {
        bail!("has not at most {longest} bytes without control characters");
    }
    Ok(())
}

fn check_handler(handler: &Handler) -> Result<()> {
    check_id(&handler.id).at("id")?;
    if handler.unit.names().is_empty() {
        return Err(Error::new("names no unit").at("unit"));
    }
    let check = |name: &String| make::check_unit(name).at("unit");
    handler.unit.names().iter().try_for_each(check)
}

/// At most so many bytes, with dots in the place of the rest.
pub(crate) fn shorten(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(longest.saturating_sub(3));
    format!("{}...", &text[..end])
}

/// A want of files, once the outline is made.
pub(crate) type Want = Option<WantId>;
