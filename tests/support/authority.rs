//! Certificates for servers and clients, made for a test.

use std::fs;
use std::path::PathBuf;

/// An authority, and a folder for what it certifies.
pub struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    folder: PathBuf,
}

/// A certificate, its key and its authority, in PEM files.
#[derive(Clone)]
pub struct Files {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let authority = Self { issuer, folder };
        fs::write(authority.ca(), authority.issuer.pem()).unwrap();
        authority
    }

    /// Its own certificate, a PEM file.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Files that say that their owner is `name`.
    pub fn certify(&self, name: &str) -> Files {
        self.certify_until(name, 4096)
    }

    /// As [`Self::certify`], until the end of a year.
    pub fn certify_until(&self, name: &str, year: i32) -> Files {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| self.folder.join(format!("{name}.{year}.{end}"));
        fs::write(path("pem"), certificate.pem()).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        Files {
            ca: self.ca(),
            certificate: path("pem"),
            key: path("key"),
        }
    }
}
