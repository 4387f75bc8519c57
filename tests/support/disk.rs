//! File systems of a test's own, in memory. They need root, as the daemon does on a node.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::wait_for;

/// Runs a tool and returns its output; a failure says what it said.
fn run(program: &str, package: &str, arguments: &[&OsStr]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("cannot run {program} ({error}): install {package}"));
    let said = String::from_utf8_lossy(&output.stderr);
    let success = output.status.success();
    assert!(
        success,
        "{program} {arguments:?} (needs root and loop devices): {said}"
    );
    String::from_utf8(output.stdout).unwrap()
}

fn mount(arguments: &[&OsStr]) {
    run("mount", "mount (util-linux)", arguments);
}

/// Also while something is open in there.
fn detach(path: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(path).status();
}

/// A tmpfs.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of `size` bytes on a folder, which is made if it is missing.
    pub fn new(path: &Path, size: u64) -> Self {
        fs::create_dir_all(path).unwrap();
        let options = format!("size={size},mode=0700");
        let arguments = ["-t", "tmpfs", "-o", &options, "tmpfs"].map(OsStr::new);
        mount(&[&arguments[..], &[path.as_os_str()]].concat());
        Self(path.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        detach(&self.0);
    }
}

/// An ext4 on a loop device on a file in a tmpfs.
pub struct Ext4 {
    image: PathBuf,
    /// The same after a power cut, as on a node: files are known by its number.
    device: PathBuf,
    path: PathBuf,
    _below: Tmpfs,
    _folder: TempDir,
}

/// What ext4 says that it has.
const SIZE: u64 = 64 << 20;

impl Ext4 {
    /// Mounts one on a folder, which is made if it is missing. What is beneath it has `room` bytes.
    pub fn new(path: &Path, room: u64, journal: bool) -> Self {
        fs::create_dir_all(path).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let below = Tmpfs::new(&folder.path().join("below"), room);
        let image = folder.path().join("below/image");
        File::create(&image).unwrap().set_len(SIZE).unwrap();
        let features = if journal {
            "has_journal"
        } else {
            "^has_journal"
        };
        let arguments = ["-q", "-F", "-O", features].map(OsStr::new);
        let arguments = [&arguments[..], &[image.as_os_str()]].concat();
        run("mkfs.ext4", "e2fsprogs", &arguments);
        let arguments = ["--find", "--show"].map(OsStr::new);
        let arguments = [&arguments[..], &[image.as_os_str()]].concat();
        let device = run("losetup", "mount (util-linux)", &arguments);
        let disk = Self {
            device: device.trim_end().into(),
            image,
            path: path.to_owned(),
            _below: below,
            _folder: folder,
        };
        disk.mount();
        disk
    }

    fn mount(&self) {
        let kind = ["-t", "ext4"].map(OsStr::new);
        let places = [self.device.as_os_str(), self.path.as_os_str()];
        mount(&[&kind[..], &places].concat());
    }

    /// From here on nothing reaches the device any more, and what was only in memory never does.
    pub fn cut_power(&self) {
        let disk = File::open(&self.path).unwrap();
        shut_down(&disk).unwrap_or_else(|error| panic!("cannot cut ext4 off: {error}"));
    }

    /// After [`Self::cut_power`], once nobody uses it: the disk as the next boot finds it.
    pub fn power_on(&self) {
        self.unmount();
        self.mount();
    }

    fn unmount(&self) {
        wait_for("the file system to be unmounted", || {
            let unmounted = Command::new("umount").arg(&self.path).output().unwrap();
            unmounted.status.success().then_some(())
        });
    }

    /// All that is on the disk, once nobody uses it, down to inodes and births.
    pub fn copy_to(&self, image: &Path) {
        self.unmount();
        fs::copy(&self.image, image).unwrap();
        self.mount();
    }

    /// Puts back what [`Self::copy_to`] has kept.
    pub fn restore(&self, image: &Path) {
        self.unmount();
        fs::copy(image, &self.image).unwrap();
        self.mount();
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        detach(&self.path);
        // Gone once it is not in use any more.
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

/// `EXT4_IOC_SHUTDOWN` without a flush of the journal, made for tests of crashes.
#[allow(unsafe_code, reason = "rustix has no safe wrapper of this call")]
fn shut_down(file: &File) -> rustix::io::Result<()> {
    use rustix::ioctl::{Setter, ioctl, opcode};
    const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
    const NO_LOG_FLUSH: u32 = 2;
    // SAFETY: the call reads a u32 through its pointer, and nothing else.
    unsafe { ioctl(file, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }
}
