//! Runs the collectors natively on a tree of files, and prints what they found in the text format:
//! `collect ROOT [CONFIG]`, where ROOT holds `proc`, `sys` and so on, and CONFIG is the manifest's
//! `config` as JSON. On standard error, a line for each collector: how it fared, and what it read.
//!
//! For comparing with the node exporter on the same tree. Reads without the host's care: for trusted
//! trees, or one's own machine (ROOT is `/`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bulkhead_sdk::__private::{Instance, metrics as raw};
use bulkhead_sdk::node_stats::{Filesystem, SystemName};
use bulkhead_sdk::{Error, Result, bail, testing};
use globset::{GlobBuilder, GlobMatcher};
use node_metrics::NodeMetrics;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (root, config) = match arguments.as_slice() {
        [root] => (Path::new(root), "{}"),
        [root, config] => (Path::new(root), config.as_str()),
        _ => bail!("usage: collect ROOT [CONFIG]"),
    };
    fake_system_calls(root);
    let mut plugin = Instance::<NodeMetrics>::default();
    plugin
        .init(config)
        .map_err(|refusal| Error::new(refusal.message).at(refusal.field))?;
    let collectors = plugin.collectors().map_err(Error::new)?;
    let mut view = empty_view();
    let mut text = BTreeMap::new();
    for (index, collector) in collectors.iter().enumerate() {
        view.bytes.clear();
        view.files.clear();
        for (want, wanted) in collector.wants.iter().enumerate() {
            read(root, want as u32, wanted, &mut view)?;
        }
        let (wants, files) = (collector.wants.len(), view.files.len());
        let collected = plugin.collect(index as u32, view.clone());
        view.outcomes.push(raw::Outcome {
            collector: index as u32,
            ok: collected.is_ok(),
            seconds: 0.0,
        });
        let fared = match collected {
            Ok(families) => {
                print_into(&families, &mut text);
                "ok".to_owned()
            }
            Err(why) => why,
        };
        eprintln!("{}: {wants} wants, {files} files: {fared}", collector.name);
    }
    for (name, (head, mut lines)) in text {
        if !lines.is_empty() {
            lines.sort();
            println!("{head}\n{}", lines.join("\n"));
        } else {
            eprintln!("{name}: no series");
        }
    }
    Ok(())
}

fn empty_view() -> raw::View {
    raw::View {
        bytes: Vec::new(),
        files: Vec::new(),
        outcomes: Vec::new(),
    }
}

/// The mount points and the name of this machine.
fn fake_system_calls(root: &Path) {
    let mounts = std::fs::read_to_string(real(root, "/proc/mounts")).unwrap_or_default();
    let sizes: Vec<(String, Filesystem)> = mounts
        .lines()
        .filter_map(|line| {
            let point = line.split(' ').nth(1)?.replace("\\040", " ");
            let sizes = rustix::fs::statvfs(&point).ok()?;
            Some((
                point,
                Filesystem {
                    size: sizes.f_blocks * sizes.f_frsize,
                    free: sizes.f_bfree * sizes.f_frsize,
                    available: sizes.f_bavail * sizes.f_frsize,
                    files: sizes.f_files,
                    files_free: sizes.f_ffree,
                    read_only: sizes.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
                },
            ))
        })
        .collect();
    let sizes: Vec<_> = sizes.iter().map(|(p, s)| (p.as_str(), *s)).collect();
    testing::set_filesystems(&sizes);
    let name = rustix::system::uname();
    let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
    testing::set_system_name(SystemName {
        sysname: text(name.sysname()),
        nodename: text(name.nodename()),
        release: text(name.release()),
        version: text(name.version()),
        machine: text(name.machine()),
        domainname: text(name.domainname()),
    });
    testing::set_time_zone("UTC", 0);
}

/// Where a path of the contract is to be read.
fn real(root: &Path, path: &str) -> PathBuf {
    let path = match path.strip_prefix("/proc/self/") {
        Some(rest) => format!("proc/1/{rest}"),
        None if path == "/proc/mounts" => "proc/1/mounts".to_owned(),
        None => path.trim_start_matches('/').to_owned(),
    };
    root.join(path)
}

fn read(root: &Path, want: u32, wanted: &raw::Want, view: &mut raw::View) -> Result<()> {
    let mut paths = vec![String::new()];
    for component in wanted.glob.trim_start_matches('/').split('/') {
        if component == "**" {
            bail!("{}: `**` is not implemented here", wanted.glob);
        }
        let glob = GlobBuilder::new(component)
            .build()
            .map_err(|error| Error::new(format!("{}: {error}", wanted.glob)))?
            .compile_matcher();
        let is_glob = component.contains(['*', '?', '[']);
        paths = paths
            .iter()
            .flat_map(|path| {
                match is_glob {
                    true => matching(&real(root, path), &glob),
                    false => vec![component.to_owned()],
                }
                .into_iter()
                .map(move |name| format!("{path}/{name}"))
            })
            .collect();
    }
    paths.sort();
    for path in paths {
        add(want, wanted.look, &path, &real(root, &path), view);
    }
    Ok(())
}

fn matching(folder: &Path, glob: &GlobMatcher) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| glob.is_match(name))
        .collect()
}

fn add(want: u32, look: raw::Look, path: &str, real: &Path, view: &mut raw::View) {
    let data = match look {
        raw::Look::Content => std::fs::read(real),
        raw::Look::Name => real.symlink_metadata().map(|_| Vec::new()),
        raw::Look::Target if !real.is_symlink() => return,
        raw::Look::Target => real
            .canonicalize()
            .map(|target| target.into_os_string().into_encoded_bytes()),
    };
    let (data, error) = match data {
        Ok(data) => (data, 0),
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) if error.kind() == ErrorKind::NotADirectory => return,
        Err(error) => (Vec::new(), error.raw_os_error().unwrap_or(5) as u32),
    };
    let path_offset = view.bytes.len() as u32;
    view.bytes.extend_from_slice(path.as_bytes());
    let offset = view.bytes.len() as u32;
    view.bytes.extend_from_slice(&data);
    view.files.push(raw::File {
        want,
        path_offset,
        path_length: path.len() as u32,
        offset,
        length: data.len() as u32,
        error,
        flags: 0,
        // Not told: two trees with the same files shall look the same.
        modified: 0,
    });
}

/// By family: its head, and its lines.
type Text = BTreeMap<String, (String, Vec<String>)>;

fn print_into(families: &raw::Families, text: &mut Text) {
    let span = |offset: u32, length: u32| {
        let (start, length) = (offset as usize, length as usize);
        String::from_utf8_lossy(&families.bytes[start..start + length])
    };
    for family in &families.families {
        let name = span(family.name_offset, family.name_length);
        let help = span(family.help_offset, family.help_length);
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let kind = match family.kind {
            raw::Kind::Counter => "counter",
            raw::Kind::Gauge | raw::Kind::Info => "gauge",
            raw::Kind::Histogram => "histogram",
            raw::Kind::Summary => "summary",
            raw::Kind::Untyped => "untyped",
        };
        let head = format!("# HELP {name} {help}\n# TYPE {name} {kind}");
        text.entry(name.into_owned()).or_insert((head, Vec::new()));
    }
    let (mut labels, mut points) = (families.labels.iter(), families.points.iter());
    for series in &families.series {
        let family = &families.families[series.family as usize];
        let name = span(family.name_offset, family.name_length).into_owned();
        let mut pairs: Vec<(String, String)> = labels
            .by_ref()
            .take(series.labels as usize)
            .map(|label| {
                (
                    span(label.name_offset, label.name_length).into_owned(),
                    span(label.value_offset, label.value_length).into_owned(),
                )
            })
            .collect();
        pairs.sort();
        let Some((_, lines)) = text.get_mut(&name) else {
            continue;
        };
        let (suffix, bound) = match family.kind {
            raw::Kind::Histogram => ("_bucket", "le"),
            raw::Kind::Summary => ("", "quantile"),
            _ => {
                lines.push(line(&name, &pairs, series.value));
                continue;
            }
        };
        for point in points.by_ref().take(series.points as usize) {
            let mut pairs = pairs.clone();
            pairs.push((bound.to_owned(), number(point.at)));
            lines.push(line(&format!("{name}{suffix}"), &pairs, point.value));
        }
        lines.push(line(&format!("{name}_sum"), &pairs, series.value));
        lines.push(line(&format!("{name}_count"), &pairs, series.count));
    }
}

fn line(name: &str, labels: &[(String, String)], value: f64) -> String {
    let mut line = name.to_owned();
    let mut before = '{';
    for (name, value) in labels {
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let _ = write!(line, "{before}{name}=\"{value}\"");
        before = ',';
    }
    if before == ',' {
        line.push('}');
    }
    line + " " + &number(value)
}

/// As Go prints numbers: labels such as `le` are compared as text.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return format!("{}Inf", if value > 0.0 { '+' } else { '-' });
    }
    let exponential = format!("{value:e}");
    match exponential.split_once('e') {
        Some((digits, exponent)) => match exponent.parse::<i32>().unwrap_or_default() {
            -4..6 => value.to_string(),
            exponent => format!("{digits}e{exponent:+03}"),
        },
        None => exponential,
    }
}
