//! A plugin's name in the whole system: namespace and name of what declares it.

use std::fmt;

use serde::{Serialize, Serializer};

/// Namespace and name of a manifest, `NAMESPACE/NAME`. API paths, state keys and metric labels use
/// it, so that both parts are DNS names as Kubernetes checks them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    namespace: String,
    name: String,
}

/// The namespace of manifests in a folder that do not say one.
pub const LOCAL_NAMESPACE: &str = "local";

impl Identity {
    /// An identity, or what is wrong with it. A namespace is a DNS label of 1 to 63 characters, a
    /// name a DNS subdomain of 1 to 253.
    pub fn new(
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Result<Self, IdentityError> {
        let (namespace, name) = (namespace.into(), name.into());
        if !is_dns_label(&namespace) {
            return Err(IdentityError::Namespace(namespace));
        }
        if name.len() > 253 || !name.split('.').all(is_dns_label) {
            return Err(IdentityError::Name(name));
        }
        Ok(Self { namespace, name })
    }

    /// The namespace; `local` for a folder's manifest that does not say one.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl std::str::FromStr for Identity {
    type Err = IdentityError;

    /// `NAMESPACE/NAME`, or `NAME` for `local/NAME`.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let (namespace, name) = text.split_once('/').unwrap_or((LOCAL_NAMESPACE, text));
        Self::new(namespace, name)
    }
}

impl Serialize for Identity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which part of an identity is no DNS name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The namespace is not a DNS label.
    #[error(
        "namespace {0:?} is not 1 to 63 lower-case letters, digits and dashes, with a letter or digit at both ends"
    )]
    Namespace(String),
    /// The name is not a DNS subdomain.
    #[error(
        "name {0:?} is not lower-case letters, digits, dashes and dots, with a letter or digit at both ends of each part"
    )]
    Name(String),
}

/// Whether `text` is a DNS label by RFC 1123, in lower case.
pub(super) fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether `text` is a DNS subdomain by RFC 1123, in lower case.
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_are_dns_names() {
        let identity: Identity = "kube-system/log-shipper.v2".parse().unwrap();
        assert_eq!(identity.to_string(), "kube-system/log-shipper.v2");
        assert_eq!("a".parse::<Identity>().unwrap().to_string(), "local/a");
        for bad in [
            "", "/", "a/", "/a", "A/b", "a/B", "a/-b", "a/b-", "a/b..c", "a/b/c", "a/ü", "a.b/c",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
        assert!(Identity::new("a", "b".repeat(63)).is_ok());
        assert!(Identity::new("a", "b".repeat(64)).is_err());
        assert!(Identity::new("b".repeat(64), "a").is_err());
    }
}
