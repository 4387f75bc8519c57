//! Conditions and templates, compiled once.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bulkhead_sdk::enforcement::View;
use bulkhead_sdk::{Error, Result, bail};
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, context};
use serde_json::Map;

/// What the first part of a fact's name may be.
const FACTS: &[&str] = &["arch", "cpus", "kernel", "machine", "memory", "node", "os"];

/// Facts that are numbers.
const NUMBERS: &[&str] = &["cpus", "memory.bytes"];

/// Steps that a template may take; one that goes on for ever ends with an error.
const FUEL: u64 = 1_000_000;

/// All templates of the configuration, and what they are filled in with.
#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
    /// In which a label that is not there is only not equal to anything.
    conditions: Environment<'static>,
    vars: Value,
    count: usize,
}

/// A template of [`Templates`].
#[derive(Debug, Clone)]
pub(crate) struct Template(String);

/// A compiled condition.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    template: Template,
    /// The facts in it.
    facts: Vec<String>,
}

/// What is known about a node, for templates.
#[derive(Debug)]
pub(crate) struct Known {
    names: BTreeSet<String>,
    context: Value,
}

impl Templates {
    pub(crate) fn new(vars: &Map<String, serde_json::Value>) -> Self {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        // A file ends as its template does, and a line that only has a block in it leaves nothing.
        let syntax = minijinja::syntax::SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        if let Ok(syntax) = syntax {
            environment.set_syntax(syntax);
        }
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let mut conditions = Environment::new();
        conditions.set_fuel(Some(FUEL));
        // Places are known without it; it copies the template into each error.
        environment.set_debug(false);
        conditions.set_debug(false);
        Self {
            environment,
            conditions,
            vars: Value::from(minijinja::value::Serde(vars)),
            count: 0,
        }
    }

    /// Compiles a template. Names that there cannot be are errors already here.
    pub(crate) fn template(&mut self, source: &str) -> Result<Template> {
        let template = self.name();
        self.environment
            .add_template_owned(template.0.clone(), source.to_owned())
            .map_err(error)?;
        let compiled = self.environment.get_template(&template.0).map_err(error)?;
        check_names(&compiled.undeclared_variables(false), &self.environment)?;
        self.check_vars(&compiled.undeclared_variables(true))?;
        Ok(template)
    }

    /// Compiles a condition.
    pub(crate) fn condition(&mut self, source: &str) -> Result<Condition> {
        // Read as an expression alone, so that nothing else gets through.
        let expression = self
            .conditions
            .compile_expression_owned(source.to_owned())
            .map_err(error)?;
        check_names(&expression.undeclared_variables(false), &self.conditions)?;
        let names = expression.undeclared_variables(true);
        self.check_vars(&names)?;
        let mut facts: Vec<String> = names
            .into_iter()
            .filter(|name| FACTS.contains(&name.split('.').next().unwrap_or_default()))
            .collect();
        facts.sort();
        let template = self.name();
        let source = format!("{{% if {source} %}}true{{% endif %}}");
        self.conditions
            .add_template_owned(template.0.clone(), source)
            .map_err(error)?;
        Ok(Condition { template, facts })
    }

    /// Refuses members of `vars` that there are not.
    fn check_vars(&self, names: &HashSet<String>) -> Result<()> {
        for variable in names.iter().filter_map(|name| name.strip_prefix("vars.")) {
            let first = variable.split('.').next().unwrap_or(variable);
            if self.vars.get_attr(first).is_ok_and(|it| it.is_undefined()) {
                bail!("there is no `vars.{first}`");
            }
        }
        Ok(())
    }

    fn name(&mut self) -> Template {
        self.count += 1;
        Template(self.count.to_string())
    }

    /// Fills in a template.
    pub(crate) fn render(&self, template: &Template, known: &Known) -> Result<String> {
        self.render_in(&self.environment, template, known)
    }

    fn render_in(
        &self,
        environment: &Environment<'static>,
        template: &Template,
        known: &Known,
    ) -> Result<String> {
        let compiled = environment.get_template(&template.0).map_err(error)?;
        let vars = &self.vars;
        let context = context! { vars => vars, ..known.context.clone() };
        let rendered = compiled.render(context);
        rendered.map_err(|wrong| match undefined(&wrong, compiled.source()) {
            Some(name) => Error::new(format!("`{name}` is undefined{}", line(&wrong))),
            None => error(wrong),
        })
    }

    /// Whether a condition holds; if not, why.
    pub(crate) fn holds(&self, condition: &Condition, known: &Known) -> Result<Option<String>> {
        let missing = condition.facts.iter().find(|fact| !known.has(fact));
        if let Some(missing) = missing {
            return Ok(Some(match known.names.is_empty() {
                true => format!("`{missing}` is not known without the grant `nodeFacts`"),
                false => format!("the node has no fact `{missing}`"),
            }));
        }
        let holds = self.render_in(&self.conditions, &condition.template, known)? == "true";
        Ok((!holds).then(|| "`when` does not hold".to_owned()))
    }
}

impl Known {
    pub(crate) fn new(view: &View) -> Self {
        let mut labels = BTreeMap::new();
        let mut tree = Tree::default();
        let mut names = BTreeSet::new();
        for (name, value) in view.facts() {
            names.insert(name.to_owned());
            match name.strip_prefix("labels.") {
                Some(label) => {
                    labels.insert(label.to_owned(), Value::from(value));
                }
                None => tree.add(name, fact(name, value)),
            }
        }
        let mut context: BTreeMap<String, Value> = tree
            .0
            .into_iter()
            .map(|(name, node)| (name, node.value()))
            .collect();
        context.insert("labels".to_owned(), Value::from(labels));
        Self {
            names,
            context: Value::from(context),
        }
    }

    /// Whether there is a fact, or one below it.
    fn has(&self, name: &str) -> bool {
        let below = format!("{name}.");
        self.names.contains(name) || self.names.iter().any(|known| known.starts_with(&below))
    }
}

fn fact(name: &str, value: &str) -> Value {
    match value.parse::<i64>() {
        Ok(number) if NUMBERS.contains(&name) => Value::from(number),
        _ => Value::from(value),
    }
}

/// Facts by the parts of their names.
#[derive(Default)]
struct Tree(BTreeMap<String, Branch>);

enum Branch {
    Leaf(Value),
    Inner(Tree),
}

impl Tree {
    fn add(&mut self, name: &str, value: Value) {
        match name.split_once('.') {
            None => {
                self.0.insert(name.to_owned(), Branch::Leaf(value));
            }
            Some((first, rest)) => {
                let empty = || Branch::Inner(Tree::default());
                let branch = self.0.entry(first.to_owned()).or_insert_with(empty);
                if let Branch::Inner(tree) = branch {
                    tree.add(rest, value);
                }
            }
        }
    }
}

impl Branch {
    fn value(self) -> Value {
        match self {
            Branch::Leaf(value) => value,
            Branch::Inner(tree) => {
                let members = tree
                    .0
                    .into_iter()
                    .map(|(name, branch)| (name, branch.value()));
                Value::from(members.collect::<BTreeMap<_, _>>())
            }
        }
    }
}

/// Refuses names that stand for nothing on any node.
fn check_names(names: &HashSet<String>, environment: &Environment<'static>) -> Result<()> {
    let known = |name: &str| {
        FACTS.contains(&name)
            || ["labels", "vars"].contains(&name)
            || environment.globals().any(|(function, _)| function == name)
    };
    let mut odd: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| !known(name))
        .collect();
    odd.sort_unstable();
    match odd.first() {
        Some(odd) => bail!(
            "there is no `{odd}`; known are facts ({}), `labels` and `vars`",
            FACTS.join(", ")
        ),
        None => Ok(()),
    }
}

fn error(error: minijinja::Error) -> Error {
    let kind = error.kind();
    let message = match error.detail() {
        Some(detail) => format!("{kind}: {detail}"),
        None => kind.to_string(),
    };
    Error::new(message + &line(&error))
}

fn line(error: &minijinja::Error) -> String {
    let line = error.line();
    line.map_or_else(String::new, |line| format!(" (line {line})"))
}

/// What of a template an error calls undefined.
fn undefined<'s>(error: &minijinja::Error, source: &'s str) -> Option<&'s str> {
    let range = error.range()?;
    let is_undefined = error.kind() == ErrorKind::UndefinedError;
    is_undefined.then(|| source.get(range)).flatten()
}
