//! On which nodes a plugin runs, by the labels of the node. The operators are those of a
//! `NodeSelectorRequirement` of Kubernetes' API (core/v1).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::Plugin;

/// Something that must hold of a label of the node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeExpression {
    /// The label.
    pub key: String,
    /// What is asked of it.
    pub operator: NodeOperator,
    /// With what it is compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// What is asked of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum NodeOperator {
    /// Its value is one of these.
    In,
    /// It is missing, or its value is none of these.
    NotIn,
    /// It is there.
    Exists,
    /// It is missing.
    DoesNotExist,
    /// Its value is a whole number above the one given.
    Gt,
    /// Its value is a whole number below the one given.
    Lt,
}

impl NodeExpression {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let number = |text: &str| text.parse::<i64>().ok();
        let numbers = || {
            let given = self.values.first().and_then(|text| number(text))?;
            Some((number(value?)?, given))
        };
        match self.operator {
            NodeOperator::In => value.is_some_and(|value| self.values.contains(value)),
            NodeOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            NodeOperator::Exists => value.is_some(),
            NodeOperator::DoesNotExist => value.is_none(),
            NodeOperator::Gt => numbers().is_some_and(|(value, given)| value > given),
            NodeOperator::Lt => numbers().is_some_and(|(value, given)| value < given),
        }
    }
}

impl Plugin {
    /// Whether it asks for anything of the node's labels.
    pub fn selects_nodes(&self) -> bool {
        !self.node_selector.is_empty() || !self.node_expressions.is_empty()
    }

    /// Whether it shall run on a node with these labels.
    pub fn is_for(&self, labels: &BTreeMap<String, String>) -> bool {
        let mut selector = self.node_selector.iter();
        let mut expressions = self.node_expressions.iter();
        selector.all(|(key, value)| labels.get(key) == Some(value))
            && expressions.all(|expression| expression.holds(labels))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn holds(expression: &str) -> bool {
        let labels = [("zone", "a"), ("cores", "8"), ("empty", "")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let expression: NodeExpression = serde_json::from_str(expression).unwrap();
        expression.holds(&labels.into())
    }

    #[test]
    fn expressions_mean_what_they_mean_for_pods() {
        for (expression, expected) in [
            (r#"{"key":"zone","operator":"In","values":["b","a"]}"#, true),
            (r#"{"key":"zone","operator":"In","values":["b"]}"#, false),
            (r#"{"key":"none","operator":"In","values":["b"]}"#, false),
            (r#"{"key":"zone","operator":"NotIn","values":["a"]}"#, false),
            (r#"{"key":"none","operator":"NotIn","values":["a"]}"#, true),
            (r#"{"key":"empty","operator":"Exists"}"#, true),
            (r#"{"key":"none","operator":"Exists"}"#, false),
            (r#"{"key":"none","operator":"DoesNotExist"}"#, true),
            (r#"{"key":"zone","operator":"DoesNotExist"}"#, false),
            (r#"{"key":"cores","operator":"Gt","values":["7"]}"#, true),
            (r#"{"key":"cores","operator":"Gt","values":["8"]}"#, false),
            (r#"{"key":"cores","operator":"Lt","values":["9"]}"#, true),
            (r#"{"key":"zone","operator":"Lt","values":["9"]}"#, false),
            (r#"{"key":"none","operator":"Gt","values":["0"]}"#, false),
        ] {
            assert_eq!(holds(expression), expected, "{expression}");
        }
    }
}
