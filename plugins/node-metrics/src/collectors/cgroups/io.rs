//! What a container reads and writes, by block device.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_sdk::Families;
use bulkhead_sdk::metrics::{Entry, Kind};

use super::Group;
use super::table::family;

/// Names of block devices by their numbers, as `8:0`.
pub(super) type Disks<'a> = BTreeMap<String, &'a str>;

/// Of `/proc/diskstats`.
pub(super) fn disks(file: Option<Entry<'_>>) -> Disks<'_> {
    let text = file.and_then(|file| file.text()).unwrap_or_default();
    let mut known = BTreeSet::new();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (major, minor, name) = (fields.next()?, fields.next()?, fields.next()?);
            known
                .insert(name)
                .then(|| (format!("{major}:{minor}"), name))
        })
        .collect()
}

/// Bytes read and written, operations read and written.
type Io = [Option<u64>; 4];

pub(super) fn tell(group: &Group, labels: &[(&str, &str)], disks: &Disks, out: &mut Families) {
    let mut by_device: BTreeMap<&str, Io> = BTreeMap::new();
    if let Some(text) = group.text("io.stat") {
        io_of_version_2(text, &mut by_device);
    }
    let of_version_1 = [
        ("blkio.throttle.io_service_bytes", 0),
        ("blkio.throttle.io_serviced", 2),
    ];
    for (file, first) in of_version_1 {
        if let Some(text) = group.text(file) {
            io_of_version_1(text, first, &mut by_device);
        }
    }
    let metrics = [
        (
            "node_cgroup_io_read_bytes_total",
            "bytes",
            "Bytes that the container read from the device.",
        ),
        (
            "node_cgroup_io_written_bytes_total",
            "bytes",
            "Bytes that the container wrote to the device.",
        ),
        (
            "node_cgroup_io_reads_total",
            "",
            "Read operations of the container on the device.",
        ),
        (
            "node_cgroup_io_writes_total",
            "",
            "Write operations of the container on the device.",
        ),
    ];
    for (numbers, io) in by_device {
        let device = disks.get(numbers).copied().unwrap_or(numbers);
        let mut labels = labels.to_vec();
        labels.push(("device", device));
        for ((name, unit, help), value) in metrics.into_iter().zip(io) {
            if let Some(value) = value {
                let family = family(Kind::Counter, name, unit, help, out);
                out.add(family, &labels, value as f64);
            }
        }
    }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...`. A device without numbers may stand on the line of the next.
fn io_of_version_2<'a>(text: &'a str, by_device: &mut BTreeMap<&'a str, Io>) {
    for line in text.lines() {
        let mut device = None;
        for field in line.split_ascii_whitespace() {
            let Some((key, value)) = field.split_once('=') else {
                device = is_device(field).then_some(field);
                continue;
            };
            let index = ["rbytes", "wbytes", "rios", "wios"]
                .iter()
                .position(|known| *known == key);
            if let (Some(device), Some(index), Ok(value)) = (device, index, value.parse()) {
                set(by_device, device, index, value);
            }
        }
    }
}

/// `8:0 Read 1`, with a line for each kind of operation.
fn io_of_version_1<'a>(text: &'a str, first: usize, by_device: &mut BTreeMap<&'a str, Io>) {
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(device), Some(operation), Some(value)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let index = ["Read", "Write"]
            .iter()
            .position(|known| *known == operation);
        if let (Some(index), Ok(value), true) = (index, value.parse(), is_device(device)) {
            set(by_device, device, first + index, value);
        }
    }
}

fn set<'a>(by_device: &mut BTreeMap<&'a str, Io>, device: &'a str, index: usize, value: u64) {
    if let Some(slot) = by_device.entry(device).or_default().get_mut(index) {
        *slot = Some(value);
    }
}

fn is_device(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.split_once(':')
        .is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}
