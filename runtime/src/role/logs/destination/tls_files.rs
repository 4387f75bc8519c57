//! What TLS needs in PEM, from files and by reference, looked up like other secrets.

use std::sync::Arc;

use super::lookup::Named;
use super::secrets::{Secrets, Template};
use crate::manifest::Tls;

/// What a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsFile {
    Authorities,
    Certificate,
    Key,
}

/// What is given, each with what it is for. An error names the field and what is wrong with it.
pub(super) fn named(
    tls: &Tls,
    secrets: &Arc<dyn Secrets>,
) -> Result<Vec<(TlsFile, Named)>, String> {
    let given = [
        (TlsFile::Authorities, "tls.ca", &tls.ca, &tls.ca_file),
        (TlsFile::Certificate, "tls.cert", &tls.cert, &tls.cert_file),
        (TlsFile::Key, "tls.key", &tls.key, &tls.key_file),
    ];
    let mut all = Vec::new();
    for (purpose, name, text, path) in given {
        let (name, template) = match (text, path) {
            (Some(text), _) => {
                let template = Template::parse(text, secrets);
                let template = template.map_err(|problem| format!("{name}: {problem}"))?;
                (name.to_owned(), template)
            }
            (None, Some(path)) => (format!("{name}File"), Template::file(path, secrets)),
            (None, None) => continue,
        };
        all.push((purpose, Named { name, template }));
    }
    Ok(all)
}
