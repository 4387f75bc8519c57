//! The operating system, of os-release(5).

use std::collections::BTreeMap;

use bulkhead_sdk::{Collector, Families, Result, View, bail};

use super::Collect;
use crate::sysfs::whole_at;
use crate::text::require;

/// The first that is there counts.
const PATHS: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// Labels, and what they are of.
const LABELS: [(&str, &str); 12] = [
    ("build_id", "BUILD_ID"),
    ("id", "ID"),
    ("id_like", "ID_LIKE"),
    ("image_id", "IMAGE_ID"),
    ("image_version", "IMAGE_VERSION"),
    ("name", "NAME"),
    ("pretty_name", "PRETTY_NAME"),
    ("variant", "VARIANT"),
    ("variant_id", "VARIANT_ID"),
    ("version", "VERSION"),
    ("version_codename", "VERSION_CODENAME"),
    ("version_id", "VERSION_ID"),
];

pub(crate) struct Os;

impl Collect for Os {
    fn wants(&self) -> Collector {
        let [first, second] = PATHS;
        Collector::new("os").content(first).content(second)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let Some(path) = PATHS.into_iter().find(|path| view.get(path).is_some()) else {
            bail!("neither {} nor {} is there", PATHS[0], PATHS[1]);
        };
        let text = whole_at(view, path)?;
        let values: BTreeMap<&str, String> = text.lines().filter_map(assignment).collect();
        let value = |name: &str| values.get(name).map_or("", String::as_str);

        let family = out.gauge(
            "node_os_info",
            "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, \
             image_version, name, pretty_name, variant, variant_id, version, version_codename, \
             version_id.",
        );
        out.add(
            family,
            &LABELS.map(|(label, name)| (label, value(name))),
            1.0,
        );

        if let Some(version) = major_and_minor(value("VERSION_ID")) {
            let help = "Metric containing the major.minor part of the OS version.";
            let family = out.gauge("node_os_version", help);
            let labels = [
                ("id", value("ID")),
                ("id_like", value("ID_LIKE")),
                ("name", value("NAME")),
            ];
            out.add(family, &labels, version);
        }
        require(!values.is_empty(), path)
    }
}

/// A line as a shell would read it.
fn assignment(line: &str) -> Option<(&str, String)> {
    let line = line.trim();
    let (name, value) = line
        .strip_prefix("export ")
        .unwrap_or(line)
        .split_once('=')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.chars().all(is_name) {
        return None;
    }
    let mut plain = String::with_capacity(value.len());
    let mut quote = None;
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            _ if quote == Some(c) => quote = None,
            ('\\', None | Some('"')) => plain.extend(characters.next()),
            _ if c.is_whitespace() && quote.is_none() => break,
            _ => plain.push(c),
        }
    }
    quote.is_none().then_some((name, plain))
}

/// `22.04.1` is 22.04; what does not begin with a number is none.
fn major_and_minor(version: &str) -> Option<f64> {
    let is_digit = |c: char| c.is_ascii_digit();
    let major = version.find(|c| !is_digit(c)).unwrap_or(version.len());
    let (major, rest) = version.split_at_checked(major)?;
    let minor = rest.strip_prefix('.').unwrap_or_default();
    let minor = minor.split(|c| !is_digit(c)).next().unwrap_or_default();
    let version: f64 = format!("{major}.{minor}0").parse().ok()?;
    (version > 0.0).then_some(version)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::{assignment, major_and_minor};
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const DEBIAN: &str = "\
PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"
NAME=\"Debian GNU/Linux\"
VERSION_ID=\"12.1.5\"
VERSION=\"12 (bookworm)\"
VERSION_CODENAME=bookworm
# no more
ID=debian
";

    fn collect(files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        Ok(plugin.collect("os", files)?.lines())
    }

    #[test]
    fn tells_the_system() {
        let files = Files::new()
            .file("/etc/os-release", DEBIAN)
            .file("/usr/lib/os-release", "ID=other\n");
        assert_eq!(
            collect(&files).unwrap(),
            [
                concat!(
                    r#"node_os_info{build_id="",id="debian",id_like="",image_id="","#,
                    r#"image_version="",name="Debian GNU/Linux","#,
                    r#"pretty_name="Debian GNU/Linux 12 (bookworm)",variant="",variant_id="","#,
                    r#"version="12 (bookworm)",version_codename="bookworm",version_id="12.1.5"} 1"#
                ),
                r#"node_os_version{id="debian",id_like="",name="Debian GNU/Linux"} 12.1"#,
            ]
        );
        let second = Files::new().file("/usr/lib/os-release", "ID=arch\nVERSION_ID=rolling\n");
        let lines = collect(&second).unwrap();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains(r#"id="arch""#));
        assert!(collect(&Files::new()).is_err());
    }

    #[test]
    fn values_are_quoted_as_in_a_shell() {
        for (line, value) in [
            ("A=b", Some("b")),
            ("export A=b c", Some("b")),
            (r#"A="b \"c\" \$d""#, Some(r#"b "c" $d"#)),
            (r"A='b \c'", Some(r"b \c")),
            (r#"A="#, Some("")),
            (r#"A="b"#, None),
            ("A", None),
            ("#A=b", None),
        ] {
            let expected = value.map(|value| ("A", value.to_owned()));
            assert_eq!(assignment(line), expected, "{line}");
        }
    }

    #[test]
    fn versions_are_numbers() {
        for (version, value) in [
            ("22.04", Some(22.04)),
            ("7", Some(7.0)),
            ("20231001", Some(20_231_001.0)),
            ("3.18.4", Some(3.18)),
            ("9.", Some(9.0)),
            ("0", None),
            ("", None),
            ("rolling", None),
        ] {
            assert_eq!(major_and_minor(version), value, "{version}");
        }
    }

    #[test]
    fn survives_nonsense() {
        survives("os", "{}", &[("/etc/os-release", DEBIAN)]);
    }
}
