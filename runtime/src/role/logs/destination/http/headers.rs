//! A destination's headers, with secrets looked up again when their file changes.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap,
    HeaderName, HeaderValue, TRANSFER_ENCODING,
};

use super::super::lookup::{Lookup, Named};
use super::super::secrets::{Resolved, Secrets, Template};
use crate::manifest::Endpoint;

/// Who the daemon is, beside `headers` and `basicAuth`: a kind's own field.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Credential<'a> {
    /// The manifest's field.
    pub(in super::super) field: &'static str,
    /// What stands before the secret in `Authorization`.
    pub(in super::super) scheme: &'static str,
    /// The secret, by reference.
    pub(in super::super) secret: &'a str,
}

/// How a header comes from looked up secrets.
#[derive(Debug, Clone)]
enum Value {
    /// Of one.
    Text(HeaderName),
    /// `Authorization`, of a scheme and one.
    Scheme(&'static str),
    /// `Authorization`, of two: user and password.
    Basic,
}

/// Checks names and references; an error names the field and the problem.
pub(super) fn lookup(
    endpoint: &Endpoint<'_>,
    content_type: HeaderValue,
    credential: Option<Credential<'_>>,
    secrets: &Arc<dyn Secrets>,
) -> Result<Lookup<HeaderMap>, (String, String)> {
    let mut fixed = HeaderMap::new();
    fixed.insert(CONTENT_TYPE, content_type);
    let mut values = Vec::new();
    let mut named = Vec::new();
    let mut add = |field: &str, name: String, text: &str, whole: bool| {
        let template = Template::parse(text, secrets)
            .map_err(|problem| (format!("{}.{field}", endpoint.kind), problem))?;
        let template = match whole {
            true => template.all_hidden(),
            false => template,
        };
        named.push(Named { name, template });
        Ok::<_, (String, String)>(())
    };
    for (name, value) in endpoint.headers {
        let error = |problem: &str| {
            let field = format!("{}.headers", endpoint.kind);
            (field, format!("{name}: {problem}"))
        };
        let header =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| error("not a header's name"))?;
        if [
            HOST,
            CONTENT_LENGTH,
            CONTENT_ENCODING,
            TRANSFER_ENCODING,
            CONNECTION,
        ]
        .contains(&header)
        {
            return Err(error("set by the daemon; remove it"));
        }
        add(
            &format!("headers.{name}"),
            format!("header {name}"),
            value,
            false,
        )?;
        values.push(Value::Text(header));
    }
    if let Some(auth) = endpoint.basic_auth {
        add(
            "basicAuth.user",
            "basicAuth.user".to_owned(),
            &auth.user,
            false,
        )?;
        let name = "basicAuth.password";
        add(name, name.to_owned(), &auth.password, true)?;
        values.push(Value::Basic);
    }
    if let Some(own) = credential {
        add(own.field, own.field.to_owned(), own.secret, true)?;
        values.push(Value::Scheme(own.scheme));
    }
    let make =
        move |found: &[Resolved], hidden: &mut Vec<String>| make(&fixed, &values, found, hidden);
    Lookup::new(named, make).map_err(|problem| (format!("{}.headers", endpoint.kind), problem))
}

fn make(
    fixed: &HeaderMap,
    values: &[Value],
    found: &[Resolved],
    hidden: &mut Vec<String>,
) -> Result<HeaderMap, String> {
    let mut map = fixed.clone();
    let mut found = found.iter().map(|secret| secret.text.as_str());
    let mut next = || found.next().unwrap_or_default();
    for value in values {
        let (name, text) = match value {
            Value::Text(name) => (name, next().to_owned()),
            Value::Scheme(scheme) => (&AUTHORIZATION, format!("{scheme} {}", next())),
            Value::Basic => {
                let (user, password) = (next(), next());
                let encoded = STANDARD.encode(format!("{user}:{password}"));
                let text = format!("Basic {encoded}");
                // Holds the password for whoever decodes it.
                hidden.push(encoded);
                (&AUTHORIZATION, text)
            }
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| format!("header {name}: its value cannot stand in a header"))?;
        value.set_sensitive(true);
        map.insert(name.clone(), value);
    }
    Ok(map)
}
