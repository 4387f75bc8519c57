//! The control plane's certificates and keys.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};

/// Whom the API server and its clients trust; `ca.pem` in its folder.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    pub fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = Default::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "test-ca");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        Self {
            issuer,
            folder: folder.to_owned(),
        }
    }

    /// `NAME.pem` and `NAME.key` for a server at these addresses.
    pub fn certify(&self, name: &str, addresses: &[IpAddr]) {
        let mut params = CertificateParams::new(vec!["kubernetes".to_owned()]).unwrap();
        let addresses = addresses.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names.extend(addresses);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = self::key(&self.folder.join(format!("{name}.key")));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = self.folder.join(format!("{name}.pem"));
        fs::write(path, certificate.pem()).unwrap();
    }
}

impl Authority {
    /// `NAME.pem` and `NAME.key` for a user of the cluster, in these groups.
    pub fn certify_user(&self, name: &str, groups: &[&str]) {
        let mut params = CertificateParams::default();
        params.distinguished_name = Default::default();
        params.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            params
                .distinguished_name
                .push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = self::key(&self.folder.join(format!("{name}.key")));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = self.folder.join(format!("{name}.pem"));
        fs::write(path, certificate.pem()).unwrap();
    }
}

/// A new private key at `path`.
pub fn key(path: &Path) -> KeyPair {
    let key = KeyPair::generate().unwrap();
    fs::write(path, key.serialize_pem()).unwrap();
    key
}
