//! What a plugin that scans is passed of a node out of nothing.

use std::collections::BTreeMap;

use globset::GlobBuilder;
use sha2::{Digest, Sha256};

use super::{Item, Node, What};
use crate::bail;
use crate::bindings::scanning::exports::bulkhead::plugin::scanning as raw;
use crate::error::{Context, Result};
use crate::scanning::{FileKind, KernelModule, Password, Process, Socket, User};

/// What only plugins that scan are shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    processes: BTreeMap<u32, Process>,
    sockets: Vec<Socket>,
    accounts: BTreeMap<String, Password>,
    foreign_modules: Vec<String>,
    odd_files: BTreeMap<Vec<u8>, Item>,
    special: BTreeMap<String, FileKind>,
    attributes: BTreeMap<String, Vec<(String, Vec<u8>)>>,
    digests: BTreeMap<String, Vec<(&'static str, Vec<u8>)>>,
    piece_size: Option<usize>,
}

impl Node {
    /// Adds a user with a home and a shell.
    ///
    /// ```
    /// use bulkhead_sdk::scanning::Password;
    #[doc = include_str!("../../scanning/example.txt")]
    /// let node = bulkhead_sdk::testing::Node::new().account("mallory", 0, Password::Empty);
    /// # assessed!(node, |view, _| assert_eq!(view.users().last().unwrap().password, Password::Empty));
    /// ```
    #[must_use]
    pub fn account(mut self, name: &str, uid: u32, password: Password) -> Self {
        self.seen.accounts.insert(name.to_owned(), password);
        self.user(name, uid)
    }

    /// Adds a process of root, a child of process 1.
    ///
    /// ```
    #[doc = include_str!("../../scanning/example.txt")]
    /// let node = bulkhead_sdk::testing::Node::new().process(812, "/usr/sbin/sshd");
    /// # assessed!(node, |view, _| assert_eq!(view.process(812).unwrap().name, "sshd"));
    /// ```
    #[must_use]
    pub fn process(self, pid: u32, executable: &str) -> Self {
        let name = executable.rsplit('/').next().unwrap_or_default();
        let end = name.floor_char_boundary(15);
        self.process_with(Process {
            pid,
            parent: u32::from(pid != 1),
            uid: 0,
            gid: 0,
            started: 0,
            name: name[..end].to_owned(),
            executable: executable.to_owned(),
            executable_deleted: false,
            arguments: Vec::new(),
        })
    }

    /// Adds a process, all of it given.
    ///
    /// ```
    /// use bulkhead_sdk::{scanning::Process, testing::Node};
    #[doc = include_str!("../../scanning/example.txt")]
    /// let gone = Process {
    ///     pid: 4711,
    ///     parent: 1,
    ///     uid: 1000,
    ///     gid: 1000,
    ///     started: 1_700_000_000_000_000_000,
    ///     name: "x".to_owned(),
    ///     executable: "/tmp/x".to_owned(),
    ///     executable_deleted: true,
    ///     arguments: Vec::new(),
    /// };
    /// let node = Node::new().process_with(gone);
    /// # assessed!(node, |view, _| assert!(view.process(4711).unwrap().executable_deleted));
    /// ```
    #[must_use]
    pub fn process_with(mut self, process: Process) -> Self {
        self.seen.processes.insert(process.pid, process);
        self
    }

    /// Adds a socket that listens, with the process that has it.
    ///
    /// ```
    /// use bulkhead_sdk::testing::Node;
    #[doc = include_str!("../../scanning/example.txt")]
    /// let node = Node::new().process(812, "/usr/sbin/sshd").listener("tcp", "0.0.0.0", 22, Some(812));
    /// # assessed!(node, |view, _| assert!(view.sockets()[0].listening));
    /// ```
    #[must_use]
    pub fn listener(self, protocol: &str, address: &str, port: u16, pid: Option<u32>) -> Self {
        self.socket_with(Socket {
            protocol: protocol.to_owned(),
            address: address.to_owned(),
            port,
            listening: true,
            uid: 0,
            pid,
        })
    }

    /// Adds a socket, all of it given.
    ///
    /// ```
    /// use bulkhead_sdk::{scanning::Socket, testing::Node};
    #[doc = include_str!("../../scanning/example.txt")]
    /// let query = Socket {
    ///     protocol: "udp".to_owned(),
    ///     address: "10.0.0.2".to_owned(),
    ///     port: 40_000,
    ///     listening: false,
    ///     uid: 101,
    ///     pid: None,
    /// };
    /// let node = Node::new().socket_with(query);
    /// # assessed!(node, |view, _| assert_eq!(view.sockets()[0].uid, 101));
    /// ```
    #[must_use]
    pub fn socket_with(mut self, socket: Socket) -> Self {
        self.seen.sockets.push(socket);
        self
    }

    /// Adds a kernel module that is loaded, but neither signed nor of the kernel's sources.
    ///
    /// ```
    #[doc = include_str!("../../scanning/example.txt")]
    /// let node = bulkhead_sdk::testing::Node::new().foreign_module("rootkit");
    /// # assessed!(node, |view, _| assert!(view.kernel_modules()[0].unsigned));
    /// ```
    #[must_use]
    pub fn foreign_module(mut self, name: &str) -> Self {
        self.seen.foreign_modules.push(name.to_owned());
        self.module(name, true)
    }

    /// Adds a socket, a device or a named pipe.
    ///
    /// ```
    /// use bulkhead_sdk::{scanning::FileKind, testing::Node};
    #[doc = include_str!("../../scanning/example.txt")]
    /// let path = "/run/containerd/containerd.sock";
    /// let node = Node::new().special(path, FileKind::Socket).mode(path, 0o666);
    /// # seen!(node, |file| assert_eq!(file.kind(), FileKind::Socket));
    /// ```
    #[must_use]
    pub fn special(mut self, path: &str, kind: FileKind) -> Self {
        self.seen.special.insert(path.to_owned(), kind);
        self.device(path)
    }

    /// Adds a file whose path is not UTF-8. It is there for [`Harness::scan`] only.
    ///
    /// ```
    #[doc = include_str!("../../scanning/example.txt")]
    /// let node = bulkhead_sdk::testing::Node::new().odd_file(b"/tmp/\xff", "x");
    /// # seen!(node, |file| assert_eq!(file.path(), b"/tmp/\xff"));
    /// ```
    ///
    /// [`Harness::scan`]: super::super::Harness::scan
    #[must_use]
    pub fn odd_file(mut self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let item = Item::new(What::File(content.as_ref().to_vec()), 0o644);
        self.seen.odd_files.insert(path.as_ref().to_vec(), item);
        self
    }

    /// Adds an extended attribute to what is at `path`.
    ///
    /// ```
    /// use bulkhead_sdk::testing::Node;
    #[doc = include_str!("../../scanning/example.txt")]
    /// let node = Node::new().file("/usr/bin/ping", "").attribute("/usr/bin/ping", "security.capability", [1, 0]);
    /// # seen!(node, |file| assert!(file.attributes().eq([(b"security.capability".as_slice(), [1, 0].as_slice())])));
    /// ```
    #[must_use]
    pub fn attribute(mut self, path: &str, name: &str, value: impl AsRef<[u8]>) -> Self {
        let all = self.seen.attributes.entry(path.to_owned()).or_default();
        all.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Says which SHA-1, MD5 or BLAKE3 (`sha1`, `md5`, `blake3`) a file has: these are not computed here,
    /// as the SHA-256 is.
    ///
    /// ```
    #[doc = include_str!("../../scanning/example.txt")]
    /// let empty = [0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0, 0xb2, 4, 0xe9, 0x80, 9, 0x98, 0xec, 0xf8, 0x42, 0x7e];
    /// let node = Node::new().file("/motd", "").digest("/motd", "md5", empty);
    /// # scanned!(node, |outline| { outline.files(FileInterest::entries().md5()); }, |batch, _| {
    /// #     assert_eq!(batch.files().next().unwrap().md5().unwrap()[0], 0xd4);
    /// # });
    /// ```
    #[must_use]
    pub fn digest(mut self, path: &str, kind: &'static str, digest: impl AsRef<[u8]>) -> Self {
        let all = self.seen.digests.entry(path.to_owned()).or_default();
        all.push((kind, digest.as_ref().to_vec()));
        self
    }

    /// Has longer files passed in pieces of so many bytes, each in a batch of its own.
    ///
    /// ```
    #[doc = include_str!("../../scanning/example.txt")]
    /// let node = bulkhead_sdk::testing::Node::new().file("/a", "long").piece_size(2);
    /// # seen!(node, |file| assert_eq!(file.pieces().next().unwrap().bytes().len(), 2));
    /// ```
    #[must_use]
    pub fn piece_size(mut self, bytes: usize) -> Self {
        self.seen.piece_size = Some(bytes.max(1));
        self
    }

    /// The batches of a pass, or of what happened to one path.
    pub(in crate::testing) fn batches(
        &self,
        interest: &raw::FileInterest,
        only: Option<&str>,
    ) -> Result<Vec<raw::Batch>> {
        let mut batches = Batches {
            all: vec![empty_batch()],
            piece_size: self.seen.piece_size,
        };
        let flags = if only.is_some() { 4 } else { 0 };
        let plain = self.files.iter();
        let files = plain.map(|(path, item)| (path.as_bytes(), item)).chain(
            self.seen
                .odd_files
                .iter()
                .map(|(path, item)| (path.as_slice(), item)),
        );
        for (inode, (path, item)) in (2..).zip(files) {
            if only.is_some_and(|only| only.as_bytes() != path) {
                continue;
            }
            let passed = self.pass(inode, path, item, interest, flags)?;
            if passed.raw.kind == FileKind::File || interest.others {
                batches.add(passed);
            }
        }
        batches.all.retain(|batch| !batch.files.is_empty());
        Ok(batches.all)
    }

    fn pass<'a>(
        &self,
        inode: u64,
        path: &'a [u8],
        item: &'a Item,
        interest: &raw::FileInterest,
        flags: u32,
    ) -> Result<Passed<'a>> {
        let name = std::str::from_utf8(path).unwrap_or_default();
        let (kind, content, error) = self.look(name, item);
        let size = content.len() as u64;
        let longest = usize::try_from(interest.content).unwrap_or(usize::MAX);
        let passed = &content[..content.len().min(longest)];
        let is_cut = interest.content > 0 && passed.len() < content.len();
        let mut digests = Vec::new();
        if kind == FileKind::File && error == 0 {
            if interest.sha256 {
                digests.extend_from_slice(&Sha256::digest(content));
            }
            for (wanted, kind, length) in [
                (interest.sha1, "sha1", 20),
                (interest.md5, "md5", 16),
                (interest.blake3, "blake3", 32),
            ] {
                if wanted {
                    digests.extend_from_slice(self.known_digest(name, kind, length)?);
                }
            }
        }
        let mut attributes = Vec::new();
        if interest.attributes {
            if let What::Link(target) = &item.what {
                attributes.extend_from_slice(target.as_bytes());
            }
            for (name, value) in self.seen.attributes.get(name).into_iter().flatten() {
                attributes.extend_from_slice(name.as_bytes());
                attributes.push(0);
                attributes.extend_from_slice(&(value.len() as u32).to_le_bytes());
                attributes.extend_from_slice(value);
            }
        }
        let raw = raw::File {
            device: 1,
            inode,
            size,
            modified: 0,
            changed: 0,
            path_offset: 0,
            path_length: path.len() as u32,
            digests_offset: 0,
            digests_length: digests.len() as u32,
            attributes_offset: 0,
            attributes_length: attributes.len() as u32,
            mode: item.mode,
            uid: item.uid,
            gid: item.gid,
            links: 1,
            error,
            kind,
            flags: flags | u32::from(is_cut),
        };
        Ok(Passed {
            raw,
            path,
            content: passed,
            digests,
            attributes,
        })
    }

    fn look<'a>(&self, path: &str, item: &'a Item) -> (FileKind, &'a [u8], u32) {
        match &item.what {
            What::File(content) => (FileKind::File, content, 0),
            What::Unreadable(errno) => (FileKind::File, b"", *errno),
            What::Directory => (FileKind::Directory, b"", 0),
            What::Link(_) => (FileKind::Symlink, b"", 0),
            What::Device => {
                let known = self.seen.special.get(path).copied();
                (known.unwrap_or(FileKind::CharacterDevice), b"", 0)
            }
        }
    }

    fn known_digest(&self, path: &str, kind: &str, length: usize) -> Result<&[u8]> {
        let known = self.seen.digests.get(path).into_iter().flatten();
        let mut of_kind = known.filter(|(of, _)| *of == kind);
        match of_kind.next_back().map(|(_, digest)| digest) {
            Some(digest) if digest.len() == length => Ok(digest),
            Some(digest) => bail!("{kind} has {length} bytes, that of {path} {}", digest.len()),
            None => bail!("the plugin wants the {kind} of {path}: give it with `Node::digest`"),
        }
    }

    /// What the plugin sees of the node as it is.
    pub(in crate::testing) fn scan_view(&self, wants: &[raw::Want]) -> Result<raw::View> {
        let mut view = raw::View {
            bytes: Vec::new(),
            files: Vec::new(),
            processes: Vec::new(),
            sockets: Vec::new(),
            users: Vec::new(),
            kernel_modules: Vec::new(),
            sysctls: Vec::new(),
            facts: self.facts.clone(),
        };
        for (index, want) in wants.iter().enumerate() {
            match want {
                raw::Want::Processes => {
                    view.processes = self.seen.processes.values().cloned().collect();
                }
                raw::Want::Sockets => view.sockets.clone_from(&self.seen.sockets),
                raw::Want::Users => view.users = self.shown_users(),
                raw::Want::KernelModules => view.kernel_modules = self.shown_modules(),
                raw::Want::Sysctl(name) => view.sysctls.push(raw::Sysctl {
                    name: name.clone(),
                    value: self.setting(&name.replace('/', ".")).0.map(str::to_owned),
                }),
                raw::Want::FileContent(glob) => self.entries(index, glob, true, &mut view)?,
                raw::Want::FileEntry(glob) => self.entries(index, glob, false, &mut view)?,
            }
        }
        Ok(view)
    }

    fn shown_users(&self) -> Vec<User> {
        let show = |user: &crate::bindings::enforcement::exports::bulkhead::plugin::enforcement::Account| {
            let password = self.seen.accounts.get(&user.name).copied();
            User {
                name: user.name.clone(),
                uid: user.id,
                gid: user.id,
                home: match user.id {
                    0 => "/root".to_owned(),
                    _ => format!("/home/{}", user.name),
                },
                shell: "/bin/sh".to_owned(),
                password: password.unwrap_or(Password::Locked),
            }
        };
        self.users.iter().map(show).collect()
    }

    fn shown_modules(&self) -> Vec<KernelModule> {
        let there =
            |(_, module): &(&String, &crate::enforcement::Module)| module.loaded || module.built_in;
        let show = |(name, module): (&String, &crate::enforcement::Module)| {
            let foreign = self.seen.foreign_modules.contains(name);
            KernelModule {
                name: name.clone(),
                size: 16_384,
                built_in: module.built_in,
                out_of_tree: foreign,
                unsigned: foreign,
            }
        };
        self.modules.iter().filter(there).map(show).collect()
    }

    fn entries(&self, want: usize, glob: &str, content: bool, view: &mut raw::View) -> Result<()> {
        let want = want as u32;
        if !glob.contains(['*', '?', '[']) {
            self.entry(want, glob, self.files.get(glob), content, view);
            return Ok(());
        }
        let matcher = GlobBuilder::new(glob)
            .literal_separator(true)
            .build()
            .context(format_args!("the glob {glob}"))?
            .compile_matcher();
        let found = self.files.iter().filter(|(path, _)| matcher.is_match(path));
        for (path, item) in found {
            self.entry(want, path, Some(item), content, view);
        }
        Ok(())
    }

    fn entry(
        &self,
        want: u32,
        path: &str,
        item: Option<&Item>,
        content: bool,
        view: &mut raw::View,
    ) {
        const LONGEST: usize = 4 << 20;
        let (path_offset, path_length) = append(&mut view.bytes, path.as_bytes());
        let looked = item.map(|item| self.look(path, item));
        let data = match (item.map(|item| &item.what), looked) {
            (Some(What::Link(target)), _) => target.as_bytes(),
            (_, Some((_, bytes, _))) if content => &bytes[..bytes.len().min(LONGEST)],
            _ => b"",
        };
        let size = looked.map_or(0, |(_, bytes, _)| bytes.len());
        let (offset, length) = append(&mut view.bytes, data);
        view.files.push(raw::Entry {
            modified: 0,
            size: size as u64,
            want,
            path_offset,
            path_length,
            offset,
            length,
            mode: item.map_or(0, |item| item.mode),
            uid: item.map_or(0, |item| item.uid),
            gid: item.map_or(0, |item| item.gid),
            error: looked.map_or(0, |(_, _, error)| error),
            kind: looked.map(|(kind, _, _)| kind),
            flags: u32::from(content && size > LONGEST),
        });
    }
}

/// One file with what goes along.
struct Passed<'a> {
    raw: raw::File,
    path: &'a [u8],
    content: &'a [u8],
    digests: Vec<u8>,
    attributes: Vec<u8>,
}

/// Batches that are being filled, the last one of them.
struct Batches {
    all: Vec<raw::Batch>,
    piece_size: Option<usize>,
}

impl Batches {
    fn add(&mut self, passed: Passed<'_>) {
        let whole = passed.content.len().max(1);
        let size = self.piece_size.unwrap_or(whole).min(whole);
        let chunks = passed.content.chunks(size);
        if chunks.len() == 0 {
            self.open(&passed, true);
            return;
        }
        let last = chunks.len() - 1;
        for (number, chunk) in chunks.enumerate() {
            if self.piece_size.is_some() {
                self.all.push(empty_batch());
            }
            let batch = self.open(&passed, number == last);
            let (offset, length) = append(&mut batch.bytes, chunk);
            batch.pieces.push(raw::Piece {
                position: (number * size) as u64,
                file: batch.files.len() as u32 - 1,
                offset,
                length,
                last: number == last,
            });
        }
    }

    /// Adds the file to the last batch, without its bytes. The digests are known when all is read.
    fn open(&mut self, passed: &Passed<'_>, last: bool) -> &mut raw::Batch {
        let index = self.all.len() - 1;
        let batch = &mut self.all[index];
        let mut file = passed.raw;
        (file.path_offset, _) = append(&mut batch.bytes, passed.path);
        let digests = if last { passed.digests.as_slice() } else { b"" };
        (file.digests_offset, file.digests_length) = append(&mut batch.bytes, digests);
        (file.attributes_offset, _) = append(&mut batch.bytes, &passed.attributes);
        batch.files.push(file);
        batch
    }
}

fn empty_batch() -> raw::Batch {
    raw::Batch {
        bytes: Vec::new(),
        files: Vec::new(),
        pieces: Vec::new(),
    }
}

fn append(bytes: &mut Vec<u8>, data: &[u8]) -> (u32, u32) {
    let offset = bytes.len() as u32;
    bytes.extend_from_slice(data);
    (offset, data.len() as u32)
}
