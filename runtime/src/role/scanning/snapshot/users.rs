//! Users, and of their passwords only whether there is one.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::seen::{Troubles, User};
use crate::sandbox::bindings::scanning::exports::bulkhead::plugin::scanning::Password;

/// The most that is read of a file of accounts.
const FILE_BYTES: usize = 4 << 20;
/// The most users that are shown.
const USERS: usize = 1 << 16;

/// What may hold password hashes: it is wiped when it goes.
struct Secret(Vec<u8>);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // So that the compiler does not leave out what nobody reads.
        std::hint::black_box(&mut self.0);
    }
}

/// Looks at all of them.
pub(super) fn look(root: &Path, troubles: &mut Troubles) -> Vec<User> {
    let accounts = match read(root, "etc/passwd") {
        Ok(accounts) => accounts,
        Err(errno) => {
            troubles.note(|| format!("cannot read /etc/passwd: {errno}"));
            return Vec::new();
        }
    };
    let shadow = read(root, "etc/shadow").unwrap_or_else(|errno| {
        // Not there: all passwords are in the other file.
        if errno != Errno::NOENT {
            troubles.note(|| format!("cannot read /etc/shadow: {errno}"));
        }
        Secret(Vec::new())
    });
    users(&accounts.0, &shadow.0, troubles)
}

fn users(accounts: &[u8], shadow: &[u8], troubles: &mut Troubles) -> Vec<User> {
    // The first of two lines for one name counts, so it is put last.
    let lines = shadow.split(|byte| *byte == b'\n').rev();
    let fields = lines.filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        Some((fields.next()?, fields.next()?))
    });
    let shadowed: HashMap<&[u8], &[u8]> = fields.collect();
    let mut users = Vec::new();
    for line in accounts.split(|byte| *byte == b'\n') {
        if line.trim_ascii().is_empty() || line.starts_with(b"#") {
            continue;
        }
        if users.len() == USERS {
            troubles.note(|| format!("more than {USERS} users"));
            break;
        }
        match user(line, |name| shadowed.get(name).copied()) {
            Some(user) => users.push(user),
            // Not what it says: a hash may be in it.
            None => troubles.note(|| "a line of /etc/passwd that makes no sense".to_owned()),
        }
    }
    users
}

fn user<'a>(line: &'a [u8], shadowed: impl Fn(&[u8]) -> Option<&'a [u8]>) -> Option<User> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    let [name, password, uid, gid, _, home, shell] = fields.as_slice() else {
        return None;
    };
    if name.is_empty() {
        return None;
    }
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let password = match *password {
        b"x" => shadowed(name).map_or(Password::None, kind),
        inline => kind(inline),
    };
    Some(User {
        name: text(name),
        uid: number(uid)?,
        gid: number(gid)?,
        home: text(home),
        shell: text(shell),
        password,
    })
}

/// What a field of shadow(5) says.
fn kind(field: &[u8]) -> Password {
    match field.first() {
        None => Password::Empty,
        Some(b'!') => Password::Locked,
        Some(b'*') => Password::None,
        Some(_) => Password::Set,
    }
}

/// Reads a file of the node's root, links in its path being the node's. Anything but a file is not opened.
fn read(root: &Path, path: &str) -> Result<Secret, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())?;
    let open = |flags| {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    };
    let found = rustix::fs::fstat(open(OFlags::PATH)?)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(Errno::OPNOTSUPP);
    }
    let mut file = File::from(open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?);
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let size = usize::try_from(found.st_size).unwrap_or(FILE_BYTES);
    let mut secret = Secret(vec![0; size.min(FILE_BYTES)]);
    let mut have = 0;
    while let Some(room) = secret.0.get_mut(have..)
        && !room.is_empty()
    {
        match file.read(room) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }
    secret.0.truncate(have);
    Ok(secret)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_whether_there_is_a_password_leaves() {
        let accounts = b"root:x:0:0:root:/root:/bin/sh\n\
            open:x:1:1::/:\n\
            inline-open::2:2::/:\n\
            inline:$6$salt$hash:3:3::/:\n\
            daemon:*:4:4::/:\n\
            locked:x:5:5::/:\n\
            once:x:6:6::/:\n\
            nowhere:x:7:7::/:\n\
            # a comment\n\
            \n";
        let shadow =
            b"root:$y$secret:1::::::\nopen::1::::::\nlocked:!$y$secret:1\nonce:*:1\nroot::2\n";
        let mut troubles = Troubles::default();
        let users = users(accounts, shadow, &mut troubles);
        let brief: Vec<_> = users.iter().map(|it| (it.uid, it.password)).collect();
        assert_eq!(
            brief,
            [
                // The first of two lines counts.
                (0, Password::Set),
                (1, Password::Empty),
                (2, Password::Empty),
                (3, Password::Set),
                (4, Password::None),
                (5, Password::Locked),
                (6, Password::None),
                (7, Password::None),
            ]
        );
        let all = format!("{users:?}");
        assert!(!all.contains("secret") && !all.contains("hash"), "{all}");
        assert_eq!(troubles.count, 0);
    }

    #[test]
    fn garbage_is_counted_and_not_repeated() {
        let accounts =
            b"\xff\xfe\x00\n:x:0:0:::\nroot:$6$secret:zero:0:::\na:b\n+::::::\nok\xff:x:1:1:::/x\n";
        let mut troubles = Troubles::default();
        let users = users(accounts, &[0xff; 5000], &mut troubles);
        assert_eq!(users.len(), 1);
        assert_eq!(users[0].name, "ok\u{fffd}");
        assert_eq!(troubles.count, 5);
        assert!(!format!("{troubles:?}").contains("secret"));
    }
}
