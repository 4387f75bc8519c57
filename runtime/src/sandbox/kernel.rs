//! What the kernel tells only by system calls, for guests with the grant `nodeStats`.
//!
//! A file system may never answer, for example a network one whose server is away. It is waited for two
//! seconds, on a thread that may hang with it, and is not asked again until that thread is back: one
//! mount costs a thread or two, and the others nothing.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::bindings::plugin::bulkhead::plugin::node_stats as wit;
use crate::handover::{self, Missing, Piece, Receiver};

/// How long a file system may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long those after it still get once one has taken all of that.
const IMPATIENCE: Duration = Duration::from_millis(50);
/// The most mount points in one call.
const MOUNT_POINTS: usize = 4096;
/// The most threads that may hang.
const HANGING: usize = 32;
/// For how long the node's time zone is taken to be the same.
const SAME_ZONE: Duration = Duration::from_secs(60);

/// Asks the kernel of the node; clones share what hangs.
#[derive(Clone)]
pub(super) struct Kernel {
    /// Where the node's root folder is.
    root: Arc<Path>,
    asking: Arc<Mutex<Asking>>,
    /// The node's time zone, and when it was read.
    zone: Arc<Mutex<Option<(Instant, TimeZone)>>>,
}

/// What is being asked for, by a number of each question, and since when.
#[derive(Default)]
struct Asking {
    last: u64,
    questions: HashMap<u64, (String, Instant)>,
}

type Sizes = Result<wit::Filesystem, String>;

struct Answer(Sizes);

impl Piece for Answer {
    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

impl Kernel {
    pub(super) fn of(root: Arc<Path>) -> Self {
        Self {
            root,
            asking: Arc::default(),
            zone: Arc::default(),
        }
    }

    fn asking(&self) -> MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sizes of the file systems at these mount points of process 1.
    pub(super) async fn filesystems(&self, mut asked: Vec<String>) -> Vec<Sizes> {
        let refused = asked.len().saturating_sub(MOUNT_POINTS);
        asked.truncate(MOUNT_POINTS);
        let mut answers: Vec<Sizes> = Vec::with_capacity(asked.len() + refused);
        let asked: Arc<[String]> = asked.into();
        let mut next = self.ask(asked.clone(), 0);
        let mut patience = PATIENCE;
        while answers.len() < asked.len() {
            match next.next(patience).await {
                Ok(Answer(sizes)) => answers.push(sizes),
                // It ended early: it panicked, or was not started any more.
                Err(Missing::Over) => {
                    answers.resize_with(asked.len(), || Err("the daemon is ending".to_owned()));
                }
                Err(Missing::Late) => {
                    let mount_point = &asked[answers.len()];
                    answers.push(Err(format!("{mount_point} does not answer")));
                    // All together within the deadline of a call.
                    patience = IMPATIENCE;
                    // The other thread ends when it is back, because nobody listens to it.
                    next = self.ask(asked.clone(), answers.len());
                }
            }
        }
        answers.resize_with(asked.len() + refused, || {
            Err(format!("more than {MOUNT_POINTS} mount points"))
        });
        answers
    }

    /// Asks for those from `first` on, one after the other, on a thread of their own.
    fn ask(&self, asked: Arc<[String]>, first: usize) -> Receiver<Answer> {
        let (mut sender, receiver) = handover::queue();
        let this = self.clone();
        // Not awaited: it may hang. What it says comes through the channel.
        drop(tokio::task::spawn_blocking(move || {
            let mount_points = std::fs::read_to_string(this.root.join("proc/1/mountinfo"));
            let mount_points = mount_points.map(|text| mount_points_of(&text));
            for mount_point in asked.iter().skip(first) {
                let answer = match &mount_points {
                    Err(error) => Err(format!("/proc/1/mountinfo: {error}")),
                    Ok(known) if !known.contains(mount_point.as_str()) => {
                        Err(format!("{mount_point} is no mount point"))
                    }
                    Ok(_) => this.unless_it_hangs(mount_point),
                };
                if !sender.send(Answer(answer)) {
                    return;
                }
            }
        }));
        receiver
    }

    fn unless_it_hangs(&self, mount_point: &str) -> Sizes {
        let question = {
            let mut asking = self.asking();
            let hangs = |asked: &Instant| asked.elapsed() >= PATIENCE;
            let hanging = asking.questions.values().filter(|(_, asked)| hangs(asked));
            if hanging.clone().any(|(asked, _)| asked == mount_point) {
                return Err(format!("{mount_point} still does not answer"));
            }
            if hanging.count() >= HANGING {
                return Err(format!("{HANGING} other mounts do not answer"));
            }
            asking.last += 1;
            let question = asking.last;
            let asked = (mount_point.to_owned(), Instant::now());
            asking.questions.insert(question, asked);
            question
        };
        let sizes = self.sizes(mount_point);
        self.asking().questions.remove(&question);
        sizes
    }

    fn sizes(&self, mount_point: &str) -> Sizes {
        let failed = |error: rustix::io::Errno| format!("{mount_point}: {error}");
        let path = OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::open(&*self.root, path, Mode::empty()).map_err(failed)?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let opened = rustix::fs::openat2(root, mount_point, path, Mode::empty(), resolve);
        let file_system = opened.map_err(failed)?;
        let statistics = rustix::fs::fstatfs(&file_system).map_err(failed)?;
        let flags = rustix::fs::fstatvfs(&file_system).map_err(failed)?.f_flag;
        let block = u64::try_from(statistics.f_bsize).unwrap_or_default();
        Ok(wit::Filesystem {
            size: statistics.f_blocks.saturating_mul(block),
            free: statistics.f_bfree.saturating_mul(block),
            available: statistics.f_bavail.saturating_mul(block),
            files: statistics.f_files,
            files_free: statistics.f_ffree,
            read_only: flags.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        })
    }

    /// The abbreviation of the node's time zone now, and seconds east of Greenwich.
    pub(super) async fn time_zone(&self) -> (String, i32) {
        let zone = match self.known_zone() {
            Some(known) => known,
            None => {
                let this = self.clone();
                let read = tokio::task::spawn_blocking(move || this.read_zone()).await;
                read.unwrap_or(TimeZone::UTC)
            }
        };
        let info = zone.to_offset_info(Timestamp::now());
        (info.abbreviation().to_owned(), info.offset().seconds())
    }

    fn zone(&self) -> MutexGuard<'_, Option<(Instant, TimeZone)>> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_zone(&self) -> Option<TimeZone> {
        let known = self.zone();
        let (read, zone) = known.as_ref()?;
        (read.elapsed() < SAME_ZONE).then(|| zone.clone())
    }

    fn read_zone(&self) -> TimeZone {
        let bytes = localtime(&self.root).unwrap_or_default();
        let zone = TimeZone::tzif("localtime", &bytes).unwrap_or(TimeZone::UTC);
        *self.zone() = Some((Instant::now(), zone.clone()));
        zone
    }
}

/// The node's `/etc/localtime`, which is often a link: the node's.
fn localtime(root: &Path) -> std::io::Result<Vec<u8>> {
    let path = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, path, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(root, "etc/localtime", flags, Mode::empty(), resolve)?;
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(1 << 20)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The mount points of a mountinfo (proc_pid_mountinfo(5)), with their escapes resolved.
fn mount_points_of(mountinfo: &str) -> HashSet<String> {
    let fields = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    fields.map(unescape).collect()
}

/// Blanks, tabs, line feeds and backslashes are written as three octal digits.
fn unescape(field: &str) -> String {
    let mut plain = String::with_capacity(field.len());
    let mut parts = field.split('\\');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(code) if code.is_ascii() => {
                plain.push(char::from(code));
                plain.push_str(part.get(3..).unwrap_or_default());
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

pub(super) fn system_name() -> wit::SystemName {
    let name = rustix::system::uname();
    let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
    wit::SystemName {
        sysname: text(name.sysname()),
        nodename: text(name.nodename()),
        release: text(name.release()),
        version: text(name.version()),
        machine: text(name.machine()),
        domainname: text(name.domainname()),
    }
}

/// The kernel's clock, read and not changed.
#[allow(unsafe_code, reason = "see SAFETY")]
pub(super) fn clock() -> Result<wit::Clock, String> {
    // SAFETY: `timex` is integers alone, for which zero is a value; with `modes` 0 adjtimex(2) only
    // writes to it, and it lives until the call is over.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    if state < 0 {
        return Err(format!("adjtimex: {}", std::io::Error::last_os_error()));
    }
    Ok(wit::Clock {
        state,
        status: timex.status,
        offset: timex.offset,
        frequency: timex.freq,
        max_error: timex.maxerror,
        estimated_error: timex.esterror,
        constant: timex.constant,
        tick: timex.tick,
        pps_frequency: timex.ppsfreq,
        jitter: timex.jitter,
        shift: timex.shift,
        stability: timex.stabil,
        jitter_count: timex.jitcnt,
        calibration_count: timex.calcnt,
        error_count: timex.errcnt,
        stability_count: timex.stbcnt,
        tai: timex.tai,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let mountinfo =
            "22 1 0:21 / /a\\040b\\134c rw - tmpfs x rw\n23 1 0:5 / / rw - ext4 y rw\n\n";
        let found = mount_points_of(mountinfo);
        assert_eq!(found, ["/a b\\c", "/"].map(str::to_owned).into());
        assert_eq!(unescape("/a\\9\\"), "/a\\9\\");
    }

    #[tokio::test]
    async fn only_mount_points_are_told_of() {
        let kernel = Kernel::of(Path::new("/").into());
        let asked = ["/", "/etc/passwd", "/proc"].map(str::to_owned).to_vec();
        let answers = kernel.filesystems(asked).await;
        assert!(answers[0].as_ref().is_ok_and(|sizes| sizes.size > 0));
        let refused = answers[1].as_ref().err().unwrap();
        assert_eq!(refused, "/etc/passwd is no mount point");
        assert!(answers[2].is_ok());
        let many = vec!["/nowhere".to_owned(); MOUNT_POINTS + 2];
        assert_eq!(kernel.filesystems(many).await.len(), MOUNT_POINTS + 2);
    }

    #[test]
    fn the_clock_can_be_read() {
        assert!(clock().unwrap().tick > 0);
        assert!(!system_name().release.is_empty());
    }
}
