//! Software RAID, of `/proc/mdstat`: <https://raid.wiki.kernel.org/index.php/Mdstat>.

use std::collections::BTreeSet;

use bulkhead_sdk::{Collector, Families, Result, View, bail};

use super::Collect;
use crate::sysfs::whole_at;

const PATH: &str = "/proc/mdstat";

/// The values of the label `state` that are always told.
const STATES: [&str; 5] = ["active", "inactive", "recovering", "resync", "check"];

pub(crate) struct Mdadm;

impl Collect for Mdadm {
    fn wants(&self) -> Collector {
        Collector::new("mdadm").content(PATH)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let text = whole_at(view, PATH)?;
        let (mut found, mut told) = (false, BTreeSet::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if is_of_a_device(line) {
                found = true;
                if let Some(array) = Array::parse(line, lines.clone())
                    && told.insert(array.device)
                {
                    array.tell(out);
                }
            }
        }
        match found && told.is_empty() {
            true => bail!("no array in {PATH} makes sense"),
            false => Ok(()),
        }
    }
}

/// Others are indented, empty, or tell of the system as a whole.
fn is_of_a_device(line: &str) -> bool {
    !line.starts_with(char::is_whitespace)
        && !line.is_empty()
        && !line.starts_with("Personalities")
        && !line.starts_with("unused")
}

#[derive(Debug, Default, PartialEq)]
struct Array<'a> {
    device: &'a str,
    state: &'a str,
    active: u64,
    required: u64,
    failed: usize,
    spare: usize,
    blocks: u64,
    synced: u64,
}

impl<'a> Array<'a> {
    /// `line` is as `md0 : active raid1 sdb1[1] sda1[0]`; `after` are the lines after it.
    fn parse(line: &'a str, mut after: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let device = fields.next()?;
        let mut state = fields.nth(1)?;
        let status = after.next()?;
        let blocks: u64 = status.split_ascii_whitespace().next()?.parse().ok()?;
        let (required, active) = if line.contains("raid0") || line.contains("linear") {
            // Without redundancy, all disks are needed.
            let disks = line.matches('[').count() as u64;
            (disks, disks)
        } else if state == "inactive" {
            (0, 0)
        } else {
            required_and_active(status)?
        };
        let mut synced = blocks;
        let progress = match after.next()? {
            bitmap if bitmap.contains("bitmap") => after.next()?,
            other => other,
        };
        let doing = [
            ("recovery", "recovering"),
            ("check", "check"),
            ("resync", "resync"),
        ];
        if let Some((_, doing)) = doing.iter().find(|(word, _)| progress.contains(word)) {
            state = doing;
            let waits = progress.contains("PENDING") || progress.contains("DELAYED");
            synced = if waits { 0 } else { done_blocks(progress)? };
        }
        Some(Self {
            device,
            state,
            active,
            required,
            failed: line.matches("(F)").count(),
            spare: line.matches("(S)").count(),
            blocks,
            synced,
        })
    }

    fn tell(&self, out: &mut Families) {
        let device = ("device", self.device);
        let required = out.gauge("node_md_disks_required", "Total number of disks of device.");
        out.add(required, &[device], self.required as f64);
        let disks = out.gauge(
            "node_md_disks",
            "Number of active/failed/spare disks of device.",
        );
        for (state, count) in [
            ("active", self.active as f64),
            ("failed", self.failed as f64),
            ("spare", self.spare as f64),
        ] {
            out.add(disks, &[device, ("state", state)], count);
        }
        let states = out.gauge("node_md_state", "Indicates the state of md-device.");
        for state in STATES {
            let is_in_it = f64::from(u8::from(self.state == state));
            out.add(states, &[device, ("state", state)], is_in_it);
        }
        let blocks = out.gauge("node_md_blocks", "Total number of blocks on device.");
        out.add(blocks, &[device], self.blocks as f64);
        let synced = out.gauge(
            "node_md_blocks_synced",
            "Number of blocks synced on device.",
        );
        out.add(synced, &[device], self.synced as f64);
    }
}

/// The two numbers of a status line's `[4/3] [U_UU]`.
fn required_and_active(status: &str) -> Option<(u64, u64)> {
    status.split('[').find_map(|part| {
        let (required, active) = part.split_once(']')?.0.split_once('/')?;
        Some((required.parse().ok()?, active.parse().ok()?))
    })
}

/// The first number of a progress line's `(16775552/195310144)`.
fn done_blocks(progress: &str) -> Option<u64> {
    let (done, _) = progress.split_once('(')?.1.split_once('/')?;
    done.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::Array;
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const MDSTAT: &str = "\
Personalities : [raid1] [raid6] [raid5] [raid4] [raid0] [linear]
md0 : active raid1 sdb1[1] sda1[0]
      248896 blocks [2/2] [UU]

md1 : active raid6 sdd1[3] sdc1[2](F) sdb1[1] sda1[0] sde1[4](S)
      7813735424 blocks super 1.2 level 6, 512k chunk, algorithm 2 [4/3] [UU_U]
      bitmap: 1/30 pages [4KB], 65536KB chunk

md2 : active raid1 sdb2[2] sda2[0]
      195310144 blocks [2/1] [U_]
      bitmap: 1/30 pages [4KB], 65536KB chunk
      [=>...................]  recovery =  8.5% (16775552/195310144) finish=17.0min speed=259783K/sec

md3 : active (auto-read-only) raid1 sdb3[1] sda3[0]
      4190208 blocks super 1.2 [2/2] [UU]
      \tresync=PENDING

md4 : active raid0 sdb4[1] sda4[0]
      314159265 blocks 64k chunks

md5 : inactive sdc5[1](S) sda5[0](S)
      7932 blocks super external:imsm

md6 : active raid1 sdb6[1] sda6[0]
      1993728 blocks super 1.2 [2/2] [UU]
      [=>...................]  check =  5.7% (114176/1993728) finish=0.2min speed=114176K/sec

unused devices: <none>
";

    fn collect(text: &str) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        let files = Files::new().file("/proc/mdstat", text);
        Ok(plugin.collect("mdadm", &files)?.lines())
    }

    #[test]
    fn arrays_are_understood() {
        let lines: Vec<&str> = MDSTAT.lines().collect();
        let array = |device: &str| {
            let at = lines.iter().position(|line| line.starts_with(device));
            let (line, after) = lines[at.unwrap()..].split_first().unwrap();
            Array::parse(line, after.iter().copied()).unwrap()
        };
        let expected = |device, state, disks: [usize; 4], blocks, synced| Array {
            device,
            state,
            active: disks[0] as u64,
            required: disks[1] as u64,
            failed: disks[2],
            spare: disks[3],
            blocks,
            synced,
        };
        for each in [
            expected("md0", "active", [2, 2, 0, 0], 248896, 248896),
            expected("md1", "active", [3, 4, 1, 1], 7813735424, 7813735424),
            expected("md2", "recovering", [1, 2, 0, 0], 195310144, 16775552),
            expected("md3", "resync", [2, 2, 0, 0], 4190208, 0),
            expected("md4", "active", [2, 2, 0, 0], 314159265, 314159265),
            expected("md5", "inactive", [0, 0, 0, 2], 7932, 7932),
            expected("md6", "check", [2, 2, 0, 0], 1993728, 114176),
        ] {
            assert_eq!(array(each.device), each);
        }
    }

    #[test]
    fn tells_of_each_array() {
        let lines = collect(MDSTAT).unwrap();
        assert_eq!(lines.len(), 7 * 11);
        let of_md2: Vec<_> = lines
            .iter()
            .filter(|line| line.contains(r#"device="md2""#))
            .collect();
        assert_eq!(
            of_md2,
            [
                r#"node_md_blocks_synced{device="md2"} 16775552"#,
                r#"node_md_blocks{device="md2"} 195310144"#,
                r#"node_md_disks_required{device="md2"} 2"#,
                r#"node_md_disks{device="md2",state="active"} 1"#,
                r#"node_md_disks{device="md2",state="failed"} 0"#,
                r#"node_md_disks{device="md2",state="spare"} 0"#,
                r#"node_md_state{device="md2",state="active"} 0"#,
                r#"node_md_state{device="md2",state="check"} 0"#,
                r#"node_md_state{device="md2",state="inactive"} 0"#,
                r#"node_md_state{device="md2",state="recovering"} 1"#,
                r#"node_md_state{device="md2",state="resync"} 0"#,
            ]
        );
    }

    #[test]
    fn without_arrays_there_is_nothing_to_tell() {
        let none = "Personalities : [raid1]\nunused devices: <none>\n";
        assert!(collect(none).unwrap().is_empty());
        assert!(collect("md0 : active raid1 sda[0]\n  torn").is_err());
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        assert!(plugin.collect("mdadm", &Files::new()).is_err());
    }

    #[test]
    fn survives_nonsense() {
        survives("mdadm", "{}", &[("/proc/mdstat", MDSTAT)]);
    }
}
