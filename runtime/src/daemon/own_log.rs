//! Where the daemon's own log goes: reading it would feed it.
//!
//! On a bare host that is a file behind standard output or error. In a pod it is a pipe, and the
//! container runtime writes what comes out of it below `/var/log/pods`. Which pod and container we
//! are is not told to a process, but the kubelet mounts files of its folders `pods/UID` into every
//! container, and the mounts' origins name them.

use std::collections::BTreeMap;
use std::os::linux::fs::MetadataExt;
use std::path::PathBuf;

use crate::role::logs::tail::Own;

/// What this process must not read.
pub(super) fn find() -> Own {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let (pod, container) = pod(&mounts).unzip();
    Own {
        files: files(),
        folders: Vec::new(),
        pod,
        container: container.flatten(),
    }
}

/// The files behind standard output and error.
fn files() -> Vec<PathBuf> {
    let mut paths = BTreeMap::new();
    for descriptor in [1, 2] {
        let link = format!("/proc/self/fd/{descriptor}");
        if let Ok(path) = std::fs::read_link(&link)
            && let Ok(metadata) = std::fs::metadata(&path)
            && metadata.is_file()
        {
            // The link finds the open file under whatever name it gets later.
            paths.insert((metadata.st_dev(), metadata.st_ino()), [path, link.into()]);
        }
    }
    paths.into_values().flatten().collect()
}

/// The own pod's UID and, unless its manifest moved the termination log elsewhere, the container's
/// name; from proc_pid_mountinfo(5).
fn pod(mounts: &str) -> Option<(String, Option<String>)> {
    let origin = |wanted: &str| {
        mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(3);
            let (origin, point) = (fields.next()?, fields.next()?);
            (point == wanted).then_some(origin)
        })
    };
    let termination_log = origin("/dev/termination-log").and_then(|origin| {
        let mut names = origin.rsplit('/').skip(1);
        let (name, containers) = (names.next()?, names.next()?);
        let (uid, pods) = (names.next()?, names.next()?);
        (containers == "containers" && pods == "pods")
            .then(|| (uid.to_owned(), Some(name.to_owned())))
    });
    termination_log.or_else(|| {
        let mut names = origin("/etc/hosts")?.rsplit('/');
        let (file, uid, pods) = (names.next()?, names.next()?, names.next()?);
        (file == "etc-hosts" && pods == "pods").then(|| (uid.to_owned(), None))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const UID: &str = "3d5c8f0e-5b1d-4a52-9f5e-0c6c1a3e7b11";

    fn found(mounts: &str) -> Option<(String, Option<String>)> {
        pod(&mounts.replace("UID", UID))
    }

    #[test]
    fn the_kubelets_mounts_name_pod_and_container() {
        let mounts = "\
1203 1102 0:171 / / rw,relatime master:405 - overlay overlay rw,lowerdir=/a
1204 1203 0:175 / /proc rw,nosuid - proc proc rw
1210 1203 254:1 /var/lib/kubelet/pods/UID/etc-hosts /etc/hosts rw,relatime - ext4 /dev/vda1 rw
1211 1204 254:1 /var/lib/kubelet/pods/UID/containers/node-daemon/9a1c77d2 /dev/termination-log rw,relatime - ext4 /dev/vda1 rw
1212 1203 254:1 /var/lib/kubelet/pods/other/containers/x/1 /host/dev/termination-log rw - ext4 /dev/vda1 rw
";
        let container = Some("node-daemon".to_owned());
        assert_eq!(found(mounts).unwrap(), (UID.to_owned(), container.clone()));
        // The kubelet's folder on a file system of its own.
        let own = mounts.replace("/var/lib/kubelet", "");
        assert_eq!(found(&own).unwrap(), (UID.to_owned(), container));
    }

    #[test]
    fn without_the_termination_log_the_whole_pod_is_meant() {
        let mounts = "\
7 1 254:1 /var/lib/kubelet/pods/UID/etc-hosts /etc/hosts rw - ext4 /dev/vda1 rw
8 1 254:1 /var/lib/kubelet/pods/UID/containers/main/9a1c77d2 /tmp/end rw - ext4 /dev/vda1 rw
";
        assert_eq!(found(mounts).unwrap(), (UID.to_owned(), None));
    }

    #[test]
    fn elsewhere_there_is_no_pod() {
        for mounts in [
            "",
            "cut off",
            "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n",
            "7 1 254:1 /var/lib/docker/containers/abc/hosts /etc/hosts rw - ext4 /dev/vda1 rw\n",
            "7 1 0:5 /log /dev/termination-log rw - tmpfs tmpfs rw\n",
        ] {
            assert_eq!(found(mounts), None, "{mounts}");
        }
    }
}
