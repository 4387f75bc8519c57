//! How the node was, and the form in which a plugin is shown it.

use std::time::Instant;

use rustix::fs::FileType;

use crate::node_files::{Reader, TooMuch, Want as NodeFile};
use crate::sandbox::bindings::scanning::exports::bulkhead::plugin::scanning as wit;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) started: i64,
    pub(super) name: String,
    pub(super) executable: String,
    pub(super) executable_deleted: bool,
    pub(super) arguments: Vec<String>,
}

/// A socket. Of one in the file system nobody but its owner's process tells whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) protocol: &'static str,
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) listening: bool,
    pub(super) uid: u32,
    pub(super) pid: Option<u32>,
}

/// A user.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
    pub(super) shell: String,
    pub(super) password: wit::Password,
}

/// A module of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KernelModule {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) built_in: bool,
    pub(super) out_of_tree: bool,
    pub(super) unsigned: bool,
}

/// What could not be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Troubles {
    /// How much of it.
    pub count: u64,
    /// The first.
    pub first: Option<String>,
}

impl Troubles {
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(what);
    }
}

/// How the node was.
#[derive(Debug, Default)]
pub struct Seen {
    /// What could not be seen; all else was.
    pub troubles: Troubles,
    /// Paths and contents, side by side.
    pub bytes: Vec<u8>,
    /// In the order of the wants, and by path within each.
    pub files: Vec<wit::Entry>,
    pub(super) processes: Vec<Process>,
    pub(super) sockets: Vec<Socket>,
    pub(super) users: Vec<User>,
    pub(super) kernel_modules: Vec<KernelModule>,
    pub(super) sysctls: Vec<(String, Option<String>)>,
}

impl Seen {
    /// The arguments of all processes, for [`Self::processes`] to point into.
    pub fn arguments(&self) -> Vec<&str> {
        let all = self.processes.iter().flat_map(|it| &it.arguments);
        all.map(String::as_str).collect()
    }

    /// Processes, as the contract has them.
    pub fn processes<'a>(&'a self, arguments: &'a [&'a str]) -> Vec<wit::Process<'a>> {
        let mut rest = arguments;
        let processes = self.processes.iter().map(|process| {
            let (mine, behind) = rest.split_at(process.arguments.len().min(rest.len()));
            rest = behind;
            wit::Process {
                pid: process.pid,
                parent: process.parent,
                uid: process.uid,
                gid: process.gid,
                started: process.started,
                name: &process.name,
                executable: &process.executable,
                executable_deleted: process.executable_deleted,
                arguments: mine,
            }
        });
        processes.collect()
    }

    /// Sockets, as the contract has them.
    pub fn sockets(&self) -> Vec<wit::Socket<'_>> {
        let sockets = self.sockets.iter().map(|socket| wit::Socket {
            protocol: socket.protocol,
            address: &socket.address,
            port: socket.port,
            listening: socket.listening,
            uid: socket.uid,
            pid: socket.pid,
        });
        sockets.collect()
    }

    /// Users, as the contract has them.
    pub fn users(&self) -> Vec<wit::User<'_>> {
        let users = self.users.iter().map(|user| wit::User {
            name: &user.name,
            uid: user.uid,
            gid: user.gid,
            home: &user.home,
            shell: &user.shell,
            password: user.password,
        });
        users.collect()
    }

    /// Kernel modules, as the contract has them.
    pub fn kernel_modules(&self) -> Vec<wit::KernelModule<'_>> {
        let modules = self.kernel_modules.iter().map(|module| wit::KernelModule {
            name: &module.name,
            size: module.size,
            built_in: module.built_in,
            out_of_tree: module.out_of_tree,
            unsigned: module.unsigned,
        });
        modules.collect()
    }

    /// Kernel settings, as the contract has them.
    pub fn sysctls(&self) -> Vec<wit::Sysctl<'_>> {
        let sysctls = self.sysctls.iter().map(|(name, value)| wit::Sysctl {
            name,
            value: value.as_deref(),
        });
        sysctls.collect()
    }

    pub(super) fn look_at_files(
        &mut self,
        reader: &Reader,
        wants: &[(u32, NodeFile)],
        until: Instant,
    ) -> Result<(), TooMuch> {
        let files: Vec<NodeFile> = wants.iter().map(|(_, want)| want.clone()).collect();
        let read = reader.pass().read(&files, until)?;
        self.bytes = read.bytes;
        let mut found = read.files.into_iter().peekable();
        for (index, (want, file)) in wants.iter().enumerate() {
            let mut is_there = false;
            while let Some(file) = found.next_if(|file| file.want as usize == index) {
                is_there = true;
                self.files.push(entry(*want, &file));
            }
            let path = file.glob();
            // What is named is told even if it is not there.
            if !is_there && !path.contains(['*', '?', '[']) {
                let offset = self.bytes.len() as u32;
                self.bytes.extend_from_slice(path.as_bytes());
                let span = (offset, path.len() as u32);
                self.files.push(nothing(*want, span));
            }
        }
        Ok(())
    }
}

fn nothing(want: u32, (path_offset, path_length): (u32, u32)) -> wit::Entry {
    wit::Entry {
        modified: 0,
        size: 0,
        want,
        path_offset,
        path_length,
        offset: 0,
        length: 0,
        mode: 0,
        uid: 0,
        gid: 0,
        error: 0,
        kind: None,
        flags: 0,
    }
}

fn entry(want: u32, file: &crate::node_files::File) -> wit::Entry {
    let mut entry = nothing(want, file.path);
    (entry.offset, entry.length) = file.data;
    entry.modified = file.modified;
    entry.error = file.error;
    entry.flags = file.cut.into();
    match file.meta {
        Some(meta) => {
            entry.size = meta.size;
            (entry.mode, entry.uid, entry.gid) = (meta.mode, meta.uid, meta.gid);
            entry.kind = Some(match meta.kind {
                FileType::Directory => wit::FileKind::Directory,
                FileType::Symlink => wit::FileKind::Symlink,
                FileType::Fifo => wit::FileKind::Fifo,
                FileType::Socket => wit::FileKind::Socket,
                FileType::BlockDevice => wit::FileKind::BlockDevice,
                FileType::CharacterDevice => wit::FileKind::CharacterDevice,
                FileType::RegularFile | FileType::Unknown => wit::FileKind::File,
            });
        }
        // Of the kernel's, or it could not be looked at.
        None => {
            entry.size = file.data.1.into();
            entry.kind = Some(wit::FileKind::File);
        }
    }
    entry
}
