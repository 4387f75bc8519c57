//! The plugin: what its configuration asks for, each kind of check in a module of its own.

use bulkhead_sdk::scanning::{Batch, FileInterest, Findings, Outline, ScanKind, View};
use bulkhead_sdk::{Plugin, Result, Scanning};

use crate::integrity::{self, Integrity};
use crate::packages::{self, Packages};
use crate::permissions;
use crate::posture::{self, Posture};
use crate::signatures::{self, Signatures};

/// What is looked for. Sections that are not there are not looked at.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Content that is known: YARA rules, ClamAV's signatures, hashes.
    signatures: signatures::Config,
    /// Files against a baseline.
    integrity: Option<integrity::Config>,
    /// Permission bits of files.
    permissions: permissions::Config,
    /// How the node is set up.
    posture: posture::Config,
    /// Packages with known vulnerabilities.
    packages: packages::Config,
}

/// See the crate.
#[derive(Debug)]
pub struct SecurityScanner {
    signatures: Signatures,
    integrity: Option<Integrity>,
    permissions: permissions::Config,
    posture: Posture,
    packages: Packages,
}

impl Plugin for SecurityScanner {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self {
            signatures: Signatures::new(&config.signatures)?,
            integrity: config.integrity.map(Integrity::new).transpose()?,
            permissions: config.permissions,
            posture: Posture::new(config.posture)?,
            packages: Packages::new(&config.packages)?,
        })
    }
}

impl SecurityScanner {
    /// What is needed of files; none if no check is about them.
    fn interest(&self) -> Option<FileInterest> {
        let content = self.signatures.content();
        let [md5, sha1, sha256] = self.signatures.digests();
        let entries = self.integrity.is_some() || !self.permissions.is_empty();
        if content == 0 && !(md5 || sha1 || sha256 || entries) {
            return None;
        }
        let mut interest = FileInterest::content(content);
        if md5 {
            interest = interest.md5();
        }
        if sha1 {
            interest = interest.sha1();
        }
        if sha256 || self.integrity.is_some() {
            interest = interest.sha256();
        }
        if self.integrity.is_some() {
            interest = interest.attributes();
        }
        if entries {
            interest = interest.others();
        }
        Some(interest)
    }
}

impl Scanning for SecurityScanner {
    fn outline(&mut self) -> Result<Outline> {
        let mut outline = Outline::new();
        // Other versions may judge otherwise.
        outline.rule_set(env!("CARGO_PKG_VERSION"));
        self.signatures.outline(&mut outline);
        if let Some(integrity) = &mut self.integrity {
            integrity.outline(&mut outline)?;
        }
        self.permissions.outline(&mut outline);
        self.posture.outline(&mut outline);
        self.packages.outline(&mut outline);
        if let Some(interest) = self.interest() {
            outline.files(interest);
        }
        Ok(outline)
    }

    fn begin(&mut self, kind: ScanKind) -> Result<()> {
        match &mut self.integrity {
            Some(integrity) => integrity.begin(kind),
            None => Ok(()),
        }
    }

    fn scan(&mut self, batch: &Batch, out: &mut Findings) -> Result<()> {
        for file in batch {
            self.signatures.scan(&file, out);
            if !file.is_last() {
                continue;
            }
            self.permissions.scan(&file, self.integrity.as_ref(), out);
            if let Some(integrity) = &mut self.integrity {
                integrity.scan(&file, out)?;
            }
        }
        match &mut self.integrity {
            Some(integrity) => integrity.flush(),
            None => Ok(()),
        }
    }

    fn end(&mut self, complete: bool, out: &mut Findings) -> Result<()> {
        match &mut self.integrity {
            Some(integrity) => integrity.end(complete, out),
            None => Ok(()),
        }
    }

    fn assess(&mut self, view: &View, out: &mut Findings) -> Result<()> {
        self.posture.assess(view, out);
        self.packages.assess(view, out);
        Ok(())
    }
}
