//! Signatures of whole files: lines of `HASH:SIZE:NAME`, as in ClamAV's `.hdb` and `.hsb`, and plain
//! lists of `HASH` or `HASH NAME`, as `sha256sum` writes them. The digests themselves come from outside.

use std::collections::HashMap;

use super::lines;
use crate::yara::Error;
use crate::yara::error::Fault;

/// Those of one file, as far as they were computed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Digests {
    /// MD5
    pub md5: Option<[u8; 16]>,
    /// SHA-1
    pub sha1: Option<[u8; 20]>,
    /// SHA-256
    pub sha256: Option<[u8; 32]>,
}

/// Known files.
#[derive(Debug, Default)]
pub struct Hashes {
    names: Vec<String>,
    md5: Known<16>,
    sha1: Known<20>,
    sha256: Known<32>,
}

/// Sizes, where they are known, and places of names.
type Known<const LENGTH: usize> = HashMap<[u8; LENGTH], Vec<(Option<u64>, u32)>>;

impl Hashes {
    /// Adds a list. Lines that make no sense are left out, and answered.
    pub fn add(&mut self, text: &str) -> Vec<Error> {
        let mut left_out = Vec::new();
        for (line, at) in lines(text) {
            let added = self.line(line.trim(), at);
            left_out.extend(added.err().map(|fault| fault.locate(text)));
        }
        left_out
    }

    fn line(&mut self, line: &str, at: usize) -> Result<(), Fault> {
        if let Some((hash, name)) = line.split_once(char::is_whitespace)
            && !hash.contains(':')
        {
            return self.known(hash, None, name.trim_start().trim_start_matches('*'), at);
        }
        let mut fields = line.split(':');
        let hash = fields.next().unwrap_or_default();
        let size = match fields.next() {
            None | Some("*") => None,
            Some(size) => Some(size.parse().map_err(|_| {
                Fault::new(at + hash.len() + 1, "write the size in bytes here, or `*`")
            })?),
        };
        let name = fields
            .next()
            .filter(|name| !name.is_empty())
            .unwrap_or(hash);
        self.known(hash, size, name, at)
    }

    fn known(&mut self, hash: &str, size: Option<u64>, name: &str, at: usize) -> Result<(), Fault> {
        let entry = (size, self.names.len() as u32);
        if let Some(digest) = digest(hash) {
            self.md5.entry(digest).or_default().push(entry);
        } else if let Some(digest) = digest(hash) {
            self.sha1.entry(digest).or_default().push(entry);
        } else if let Some(digest) = digest(hash) {
            self.sha256.entry(digest).or_default().push(entry);
        } else {
            let message = "a line begins with a hash: 32 hexadecimal digits of MD5, 40 of SHA-1 or 64 of SHA-256";
            return Err(Fault::new(at, message));
        }
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Which hashes of a file of this size have to be computed: of MD5, SHA-1 and SHA-256.
    pub fn wanted(&self) -> [bool; 3] {
        [
            !self.md5.is_empty(),
            !self.sha1.is_empty(),
            !self.sha256.is_empty(),
        ]
    }

    /// The names that a file is known by.
    pub fn find(&self, digests: &Digests, size: u64) -> Vec<&str> {
        let found = [
            known(&self.md5, &digests.md5),
            known(&self.sha1, &digests.sha1),
            known(&self.sha256, &digests.sha256),
        ];
        let found = found.into_iter().flatten();
        let found = found.filter(|(known, _)| known.is_none_or(|known| known == size));
        found
            .filter_map(|(_, name)| self.names.get(*name as usize).map(String::as_str))
            .collect()
    }
}

fn known<'h, const LENGTH: usize>(
    hashes: &'h Known<LENGTH>,
    digest: &Option<[u8; LENGTH]>,
) -> &'h [(Option<u64>, u32)] {
    digest
        .as_ref()
        .and_then(|digest| hashes.get(digest))
        .map_or(&[], Vec::as_slice)
}

fn digest<const LENGTH: usize>(digits: &str) -> Option<[u8; LENGTH]> {
    if digits.len() != 2 * LENGTH || !digits.is_ascii() {
        return None;
    }
    let mut digest = [0; LENGTH];
    for (byte, two) in digest.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()?;
    }
    Some(digest)
}
