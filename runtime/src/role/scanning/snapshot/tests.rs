#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::manifest::{Grants, ScanGrants, SubjectGlob, Tree};
use crate::sandbox::bindings::scanning::exports::bulkhead::plugin::scanning as wit;

/// A folder that stands for a node's root.
struct Node(TempDir);

impl Node {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn look(&self, grants: &Grants, wants: &[wit::Want]) -> Seen {
        look(self.0.path(), grants, wants)
    }
}

fn look(root: &Path, grants: &Grants, wants: &[wit::Want]) -> Seen {
    let folders = NodeFolders {
        root: root.into(),
        private: Vec::new().into(),
    };
    let wants = Wants::check(wants, grants).unwrap();
    Looker::of(&folders).look(&wants).unwrap()
}

fn all() -> Grants {
    Grants {
        scan: ScanGrants {
            files: vec![Tree::Root],
            processes: true,
            arguments_of: Vec::new(),
            sockets: true,
            users: true,
            kernel_modules: true,
            sysctls: vec!["kernel.*".to_owned().try_into().unwrap()],
        },
        ..Grants::default()
    }
}

/// A process that is there until the test is over.
struct Running(Child);

impl Running {
    fn new(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn processes_of_this_machine_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("odd name");
    fs::copy("/bin/cat", &program).unwrap();
    let running = Running::new(Command::new(&program).args(["--", "-", "s3cret"]));
    let pid = running.0.id();
    fs::remove_file(&program).unwrap();
    let mut grants = all();
    let find = |grants: &Grants| {
        let seen = look(Path::new("/"), grants, &[wit::Want::Processes]);
        let mut found = seen.processes.into_iter();
        found.find(|process| process.pid == pid).unwrap()
    };
    // Until it runs the program, it is a copy of this one.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut process = find(&grants);
    while process.name != "odd name" {
        assert!(Instant::now() < deadline, "{process:?}");
        process = find(&grants);
    }
    assert_eq!(process.executable, program.to_str().unwrap());
    assert!(process.executable_deleted);
    assert_eq!(process.parent, std::process::id());
    let me = rustix::process::geteuid().as_raw();
    assert_eq!(process.uid, me);
    let age = jiff::Timestamp::now().as_nanosecond() - i128::from(process.started);
    // The kernel counts from a start that it knows to a second.
    assert!((-2_000_000_000..120_000_000_000).contains(&age), "{age}");
    assert!(process.arguments.is_empty());
    let glob = |text: &str| SubjectGlob::try_from(text.to_owned()).unwrap();
    grants.scan.arguments_of = vec![glob("cat"), glob("other*")];
    assert!(find(&grants).arguments.is_empty());
    grants.scan.arguments_of = vec![glob("odd*")];
    let arguments = find(&grants).arguments;
    assert_eq!(arguments[1..], ["--", "-", "s3cret"]);
}

#[test]
fn sockets_of_this_machine_are_seen_with_who_has_them() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b.sock");
    let _unix = UnixListener::bind(&path).unwrap();
    let seen = look(Path::new("/"), &all(), &[wit::Want::Sockets]);
    let me = Some(std::process::id());
    let find = |protocol: &str, address: &str, port: u16| {
        let mut found = seen.sockets.iter();
        let found = found
            .find(|it| (it.protocol, it.address.as_str(), it.port) == (protocol, address, port));
        found.unwrap_or_else(|| {
            panic!("no {protocol} {address} {port}; is this the network of process 1?")
        })
    };
    let port = tcp.local_addr().unwrap().port();
    let socket = find("tcp", "127.0.0.1", port);
    assert!(socket.listening && socket.pid == me, "{socket:?}");
    let port = udp.local_addr().unwrap().port();
    let socket = find("udp", "127.0.0.1", port);
    assert!(socket.listening && socket.pid == me, "{socket:?}");
    let socket = find("unix", path.to_str().unwrap(), 0);
    assert!(socket.listening && socket.pid == me, "{socket:?}");
}

#[test]
fn a_node_without_anything_is_no_panic() {
    let node = Node::new();
    let wants = [
        wit::Want::Processes,
        wit::Want::Sockets,
        wit::Want::Users,
        wit::Want::KernelModules,
        wit::Want::Sysctl("kernel.panic".to_owned()),
        wit::Want::FileContent("/etc/motd".to_owned()),
    ];
    let seen = node.look(&all(), &wants);
    assert!(seen.processes.is_empty() && seen.sockets.is_empty() && seen.users.is_empty());
    assert_eq!(seen.sysctls, [("kernel.panic".to_owned(), None)]);
    assert_eq!(seen.files.len(), 1);
    assert!(seen.troubles.count >= 3, "{:?}", seen.troubles);
}

#[test]
fn hostile_processes_are_counted_and_the_rest_is_seen() {
    let stat = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 100 99 1\n";
    let status = "Name:\tx\nUid:\t0\t1000\t0\t0\nGid:\t0\t1000\t0\t0\n";
    let node = Node::new()
        .file("proc/stat", "cpu 1 2 3\nbtime 1700000000\n")
        .file("proc/7/stat", format!("7 (a\n) b) {stat}"))
        .file("proc/7/status", status)
        .file("proc/7/cmdline", "kubelet\0--flag\0\0")
        .file("proc/8/stat", "8 (cut")
        .file("proc/8/status", status)
        .file("proc/9/stat", vec![0xff; 100_000])
        .file("proc/9/status", vec![0xff; 100_000])
        // It vanished between one file and the next.
        .file("proc/10/stat", format!("10 (gone) {stat}"))
        .file("proc/99999999999/stat", "")
        .file("proc/self/stat", "");
    symlink("/usr/bin/kubelet", node.path("proc/7/exe")).unwrap();
    let mut grants = all();
    grants.scan.arguments_of = vec!["kube*".to_owned().try_into().unwrap()];
    let seen = node.look(&grants, &[wit::Want::Processes]);
    let [process] = seen.processes.as_slice() else {
        panic!("{:?}", seen.processes);
    };
    assert_eq!(process.name, "a\n) b");
    assert_eq!((process.uid, process.gid), (1000, 1000));
    assert_eq!(process.started, 1_700_000_001_000_000_000);
    assert_eq!(process.arguments, ["kubelet", "--flag", ""]);
    assert_eq!(seen.troubles.count, 2, "{:?}", seen.troubles);
    let arguments = seen.arguments();
    assert_eq!(
        seen.processes(&arguments)[0].arguments,
        ["kubelet", "--flag", ""]
    );
}

#[test]
fn a_hundred_thousand_sockets_are_cut_and_it_is_said() {
    let mut tcp = "  sl  local_address rem_address   st\n".to_owned();
    for port in 0..100_000_u32 {
        let port = port % 65_536;
        tcp += &format!(
            "   0: 0100007F:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 {port} 1\n"
        );
    }
    let long = "x".repeat(5000);
    let unix = format!(
        "Num RefCount Protocol Flags Type St Inode Path\n\
         0000000000000000: 00000002 00000000 00010000 0001 01     1 /run/a\nb\n\
         0000000000000000: 00000002 00000000 00010000 0001 01     2 /{long}\n\
         0000000000000000: 00000002 00000000 00010000 0001 01     3 @hidden\n"
    );
    let node = Node::new()
        .file("proc/1/net/tcp", tcp)
        .file("proc/1/net/udp", "nonsense\nnonsense\n\n")
        .file("proc/1/net/unix", unix);
    let seen = node.look(&all(), &[wit::Want::Sockets]);
    let count = |protocol: &str| {
        seen.sockets
            .iter()
            .filter(|it| it.protocol == protocol)
            .count()
    };
    assert_eq!(count("tcp"), 1 << 15);
    assert_eq!(count("udp"), 0);
    let names: Vec<&str> = seen
        .sockets
        .iter()
        .filter(|it| it.protocol == "unix")
        .map(|it| it.address.as_str())
        .collect();
    assert_eq!(names.first(), Some(&"/run/a"));
    assert_eq!(names.last(), Some(&"@hidden"));
    assert!(names.iter().all(|name| name.len() <= 1024));
    // More sockets than are shown; two lines of udp; what is behind the line feed, and behind the cut.
    assert!(seen.troubles.count >= 4, "{:?}", seen.troubles);
}

#[test]
fn hashes_of_passwords_are_withheld_however_they_are_reached() {
    let node = Node::new()
        .file("etc/shadow", "root:$6$s3cret$hash:1::::::\n")
        .file("etc/motd", "welcome");
    symlink("/etc", node.path("alias")).unwrap();
    let content = |glob: &str| wit::Want::FileContent(glob.to_owned());
    let mut named = all();
    named.scan.files.clear();
    named.node_files = vec![crate::manifest::NodeGlob::parse("/etc/shadow").unwrap()];
    let wants = [content("/etc/*"), content("/alias/shadow")];
    for (grants, wants) in [(all(), &wants[..]), (named, &[content("/etc/shadow")])] {
        let seen = node.look(&grants, wants);
        assert!(!String::from_utf8_lossy(&seen.bytes).contains("s3cret"));
        let shadows = seen.files.iter().filter(|it| it.flags == 1);
        for shadow in shadows.clone() {
            assert_eq!((shadow.error, shadow.length, shadow.size), (0, 0, 28));
        }
        assert_eq!(shadows.count(), wants.len());
    }
    let seen = node.look(&all(), &[content("/etc/motd")]);
    assert!(String::from_utf8_lossy(&seen.bytes).contains("welcome"));
}

#[test]
fn users_come_from_the_nodes_own_files() {
    let node = Node::new()
        .file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nbroken\n")
        .file("real/shadow", "root:$6$s3cret$hash:1::::::\n");
    symlink("/real/shadow", node.path("etc/shadow")).unwrap();
    let seen = node.look(&all(), &[wit::Want::Users]);
    let users = seen.users();
    assert_eq!((users.len(), users[0].name), (1, "root"));
    assert_eq!(users[0].password, wit::Password::Set);
    assert_eq!(seen.troubles.count, 1);
    assert!(!format!("{seen:?}").contains("s3cret"));
    // A pipe would hold the reader for ever.
    fs::remove_file(node.path("etc/shadow")).unwrap();
    fifo(&node.path("etc/shadow"));
    let seen = node.look(&all(), &[wit::Want::Users]);
    assert_eq!(seen.users()[0].password, wit::Password::None);
    assert_eq!(seen.troubles.count, 2, "{:?}", seen.troubles);
}

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn kernel_modules_are_loaded_or_built_in() {
    let node = Node::new()
        .file("proc/sys/kernel/osrelease", "6.1.0-test\n")
        .file(
            "lib/modules/6.1.0-test/modules.builtin",
            "kernel/fs/ext4/ext4.ko\nkernel/a-b.ko\n",
        )
        .file(
            "proc/modules",
            "overlay 155648 1 - Live 0x0\nrootkit 16384 0 - Live 0x0 (OE)\nnonsense\n",
        );
    let seen = node.look(&all(), &[wit::Want::KernelModules]);
    let brief: Vec<_> = seen
        .kernel_modules()
        .iter()
        .map(|it| (it.name.to_owned(), it.built_in, it.out_of_tree, it.unsigned))
        .collect();
    let module = |name: &str, built_in, foreign| (name.to_owned(), built_in, foreign, foreign);
    assert_eq!(
        brief,
        [
            module("a_b", true, false),
            module("ext4", true, false),
            module("overlay", false, false),
            module("rootkit", false, true),
        ]
    );
    assert_eq!(seen.troubles.count, 1);
}

#[test]
fn settings_are_read_by_the_names_that_were_asked() {
    let node = Node::new()
        .file("proc/sys/kernel/panic", "10\n")
        .file("proc/sys/kernel/stable_secret", "key\n");
    let want = |name: &str| wit::Want::Sysctl(name.to_owned());
    let wants = [
        want("kernel/panic"),
        want("kernel.missing"),
        want("kernel.stable_secret"),
    ];
    let seen = node.look(&all(), &wants);
    let values: Vec<_> = seen
        .sysctls()
        .iter()
        .map(|it| (it.name.to_owned(), it.value.map(str::to_owned)))
        .collect();
    assert_eq!(
        values,
        [
            ("kernel/panic".to_owned(), Some("10".to_owned())),
            ("kernel.missing".to_owned(), None),
            ("kernel.stable_secret".to_owned(), None),
        ]
    );
    assert!(!format!("{seen:?}").contains("key\\n"));
    // Of this machine.
    let seen = look(Path::new("/"), &all(), &[want("kernel.pid_max")]);
    let value = seen.sysctls()[0].value.unwrap().parse::<u32>().unwrap();
    assert!(value > 100, "{value}");
}

#[test]
fn files_are_seen_as_what_they_are_and_nothing_is_opened_that_must_not_be() {
    let node = Node::new()
        .file("etc/app/config", "fast = true\n")
        .file("etc/app/closed", "x")
        .file("secret/key", "s3cret");
    fs::set_permissions(
        node.path("etc/app/closed"),
        fs::Permissions::from_mode(0o4711),
    )
    .unwrap();
    symlink("/secret/key", node.path("etc/app/link")).unwrap();
    symlink("/secret", node.path("etc/app/out")).unwrap();
    fifo(&node.path("etc/app/pipe"));
    let _socket = UnixListener::bind(node.path("etc/app/sock")).unwrap();
    fs::create_dir(node.path("etc/app/sub")).unwrap();
    let big = fs::File::create(node.path("etc/big")).unwrap();
    big.set_len(5 << 20).unwrap();
    let grants = Grants {
        scan: ScanGrants {
            files: vec![Tree::try_from("/etc".to_owned()).unwrap()],
            ..ScanGrants::default()
        },
        ..Grants::default()
    };
    let content = |glob: &str| wit::Want::FileContent(glob.to_owned());
    let wants = [
        wit::Want::FileEntry("/etc/app/config".to_owned()),
        content("/etc/app/*"),
        content("/etc/app/out/key"),
        content("/etc/missing"),
        content("/etc/missing/*"),
        content("/etc/big"),
    ];
    let seen = node.look(&grants, &wants);
    let span = |offset: u32, length: u32| {
        let bytes = &seen.bytes[offset as usize..(offset + length) as usize];
        String::from_utf8_lossy(bytes).into_owned()
    };
    let brief: Vec<_> = seen
        .files
        .iter()
        .map(|it| {
            let path = span(it.path_offset, it.path_length);
            let data = span(it.offset, it.length.min(20));
            (it.want, path, it.kind, data, it.error)
        })
        .collect();
    let entry = |want, path: &str, kind, data: &str, error: u32| {
        (want, path.to_owned(), kind, data.to_owned(), error)
    };
    use wit::FileKind::{Directory, Fifo, File, Socket, Symlink};
    const EACCES: u32 = 13;
    assert_eq!(
        brief,
        [
            entry(0, "/etc/app/config", Some(File), "", 0),
            entry(1, "/etc/app/closed", Some(File), "x", 0),
            entry(1, "/etc/app/config", Some(File), "fast = true\n", 0),
            entry(1, "/etc/app/link", Some(Symlink), "/secret/key", 0),
            entry(1, "/etc/app/out", Some(Symlink), "/secret", 0),
            entry(1, "/etc/app/pipe", Some(Fifo), "", 0),
            entry(1, "/etc/app/sock", Some(Socket), "", 0),
            entry(1, "/etc/app/sub", Some(Directory), "", 0),
            // The grant does not reach where the link leads.
            entry(2, "/etc/app/out/key", Some(File), "", EACCES),
            entry(3, "/etc/missing", None, "", 0),
            entry(5, "/etc/big", Some(File), &"\0".repeat(20), 0),
        ]
    );
    assert_eq!((seen.files[0].size, seen.files[1].mode), (12, 0o4711));
    let big = seen.files.last().unwrap();
    assert_eq!((big.size, big.length, big.flags), (5 << 20, 4 << 20, 1));
    // All of the node is granted: so is where the link leads.
    let seen = node.look(&all(), &[content("/etc/app/out/key")]);
    assert!(seen.bytes.ends_with(b"s3cret"), "{:?}", seen.files);
}
