//! Files of which no plugin is shown the bytes or a digest, whatever is granted: their records are passed.
//! They are where passwords' hashes and Kubernetes' secrets are on every node. Other secrets, such as
//! private keys, have no place of their own: they are contents of granted folders.

/// What is in `/etc` and in `/etc/security`; the tools that edit these leave copies with a suffix.
const HASHES: [&[u8]; 3] = [b"shadow", b"gshadow", b"opasswd"];
/// Backups, what is being edited, locks, and what package managers and shadow(5)'s tools set aside.
const COPIES: [&[u8]; 10] = [
    b"",
    b"-",
    b"+",
    b"~",
    b".lock",
    b".edit",
    b".bak",
    b".old",
    b".rpmnew",
    b".rpmsave",
];
const FOLDERS: [&[u8]; 2] = [b"/etc/", b"/etc/security/"];
const PODS: &[u8] = b"/var/lib/kubelet/pods/";
const VOLUMES: [&[u8]; 2] = [b"kubernetes.io~secret", b"kubernetes.io~projected"];
/// What the kernel appends to the path of an open file that was replaced meanwhile.
const DELETED: &[u8] = b" (deleted)";

/// Whether the bytes of the file at this path of the node are withheld.
pub(super) fn is_withheld(path: &[u8]) -> bool {
    let path = path.strip_suffix(DELETED).unwrap_or(path);
    is_hash(path) || is_secret(path)
}

fn is_hash(path: &[u8]) -> bool {
    let Some(slash) = path.iter().rposition(|byte| *byte == b'/') else {
        return false;
    };
    let (folder, name) = path.split_at(slash + 1);
    FOLDERS.contains(&folder)
        && HASHES.iter().any(|file| {
            let copy = name.strip_prefix(*file);
            copy.is_some_and(|copy| COPIES.contains(&copy) || is_lock_of_process(copy))
        })
}

/// `shadow.4026`: made by shadow's tools while they take the lock or write.
fn is_lock_of_process(copy: &[u8]) -> bool {
    let digits = copy.strip_prefix(b".");
    digits.is_some_and(|it| !it.is_empty() && it.iter().all(u8::is_ascii_digit))
}

/// `PODS/UID/volumes/KIND/NAME/...`.
fn is_secret(path: &[u8]) -> bool {
    let Some(below) = path.strip_prefix(PODS) else {
        return false;
    };
    let mut parts = below.split(|byte| *byte == b'/').skip(1);
    parts.next() == Some(b"volumes") && parts.next().is_some_and(|kind| VOLUMES.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_and_secrets_are_withheld_and_nothing_else() {
        for path in [
            "/etc/shadow",
            "/etc/gshadow",
            "/etc/shadow-",
            "/etc/gshadow-",
            "/etc/shadow+",
            "/etc/shadow.lock",
            "/etc/shadow.4026",
            "/etc/shadow (deleted)",
            "/etc/security/opasswd",
            "/var/lib/kubelet/pods/1-2/volumes/kubernetes.io~secret/tls/..data/tls.key",
            "/var/lib/kubelet/pods/1-2/volumes/kubernetes.io~projected/kube-api-access-x/token",
        ] {
            assert!(is_withheld(path.as_bytes()), "{path}");
        }
        for path in [
            "/etc/passwd",
            "/etc/shadowy",
            "/etc/shadow.conf",
            "/etc/shadow.",
            "/etc/app/shadow",
            "/srv/etc/shadow",
            "shadow",
            "",
            "/var/lib/kubelet/pods/1-2/volumes/kubernetes.io~empty-dir/x/shadow",
            "/var/lib/kubelet/pods/1-2/etc-hosts",
            "/var/lib/kubelet/config.yaml",
        ] {
            assert!(!is_withheld(path.as_bytes()), "{path}");
        }
    }
}
