//! The PEM files of TLS, looked up like other secrets.

use std::path::Path;
use std::sync::Arc;

use super::lookup::Named;
use super::secrets::{Secrets, Template};
use crate::manifest::Tls;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsFile {
    Authorities,
    Certificate,
    Key,
}

/// The files that are given, each with what it is for.
pub(super) fn named(
    tls: &Tls,
    secrets: &Arc<dyn Secrets>,
) -> impl Iterator<Item = (TlsFile, Named)> {
    let files = [
        (TlsFile::Authorities, "tls.caFile", &tls.ca_file),
        (TlsFile::Certificate, "tls.certFile", &tls.cert_file),
        (TlsFile::Key, "tls.keyFile", &tls.key_file),
    ];
    files.into_iter().filter_map(|(purpose, name, path)| {
        let named = Named {
            name: name.to_owned(),
            template: Template::file(Path::new(path.as_ref()?), secrets),
        };
        Some((purpose, named))
    })
}
