//! What is installed, from the lists that package managers keep.

/// A package. Advisories name the source that it is made of, and go by the source's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) source: String,
    pub(super) source_version: String,
}

impl Package {
    /// Bytes that it takes.
    pub(super) fn size(&self) -> usize {
        let texts = [
            &self.name,
            &self.version,
            &self.source,
            &self.source_version,
        ];
        size_of::<Self>() + texts.iter().map(|it| it.len()).sum::<usize>()
    }
}

/// `/var/lib/dpkg/status`: records of fields, separated by empty lines.
pub(super) fn dpkg(text: &str) -> Vec<Package> {
    text.split("\n\n").filter_map(dpkg_record).collect()
}

fn dpkg_record(record: &str) -> Option<Package> {
    // Lines that go on begin with a blank.
    let field = |name: &str| {
        record.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    // `want flag state`; what was removed with its settings left is not there.
    let state = field("Status")?.split_ascii_whitespace().nth(2)?;
    if matches!(state, "not-installed" | "config-files") {
        return None;
    }
    let (name, version) = (field("Package")?, field("Version")?);
    // `NAME`, or `NAME (VERSION)` if the source has a version of its own.
    let source = field("Source").unwrap_or(name);
    let (source, source_version) = match source.split_once('(') {
        Some((source, of)) => (source.trim(), of.trim_end_matches(')').trim()),
        None => (source, version),
    };
    Some(package(name, version, source, source_version))
}

/// `/lib/apk/db/installed`: records of lines `LETTER:VALUE`.
pub(super) fn apk(text: &str) -> Vec<Package> {
    text.split("\n\n").filter_map(apk_record).collect()
}

fn apk_record(record: &str) -> Option<Package> {
    let field = |letter: char| {
        let mut lines = record.lines();
        lines.find_map(|line| line.strip_prefix(letter)?.strip_prefix(':'))
    };
    let (name, version) = (field('P')?, field('V')?);
    Some(package(name, version, field('o').unwrap_or(name), version))
}

pub(super) fn package(name: &str, version: &str, source: &str, source_version: &str) -> Package {
    Package {
        name: name.to_owned(),
        version: version.to_owned(),
        source: source.to_owned(),
        source_version: source_version.to_owned(),
    }
}
