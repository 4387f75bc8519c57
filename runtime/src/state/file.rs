//! The store's folder and file: made private, locked, opened, and kept aside when damaged.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{Database, ReadableDatabase, TableDefinition, WriteTransaction};

use super::error::{Error, Fault};
use crate::lock::Lock;

/// The newest format that this daemon reads, and the one that it writes.
pub(super) const FORMAT: u64 = 1;

/// A step from one format to the next, inside the transaction that records the new format.
pub(crate) type Migration = fn(&WriteTransaction) -> Result<(), Fault>;

/// `MIGRATIONS[i]` turns format `i + 1` into `i + 2`.
pub(super) const MIGRATIONS: &[Migration] = &[];

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";

/// The state is small, and what was read once is held by the caller.
const CACHE_BYTES: usize = 1 << 20;

/// A damaged store that was put away, for the daemon's log and status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where the damaged file lies now.
    pub path: PathBuf,
    /// What was wrong with it.
    pub reason: String,
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        doing,
        path,
        source,
    }
}

/// Makes the folder if it is missing, readable by its owner only.
pub(super) fn prepare_folder(folder: &Path) -> Result<(), Error> {
    // An existing folder is left as its owner made it: narrowing /var/lib would break the node.
    let unusable = |source| Error::Folder {
        folder: folder.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(unusable)?;
    let mode = std::fs::metadata(folder)
        .map_err(unusable)?
        .permissions()
        .mode()
        & 0o7777;
    if mode & 0o022 != 0 {
        return Err(Error::Exposed {
            folder: folder.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// Takes the folder for this process, until what is returned is dropped.
///
/// The lock is a file of its own, so that it holds while the store's file is closed, put aside and
/// made anew.
pub(super) fn lock(folder: &Path) -> Result<Lock, Error> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("cannot open the lock", &path))?;
    let lock = Lock::take(file).map_err(io_error("cannot lock", &path))?;
    let lock = lock.map_err(|file| {
        let mut pid = String::new();
        // Whatever is in there is only shown; at most a process id.
        let _ = file.take(16).read_to_string(&mut pid);
        let pid = pid.trim();
        Error::InUse {
            folder: folder.to_owned(),
            pid: if pid.is_empty() { "?" } else { pid }.to_owned(),
        }
    })?;
    // Only for the message above: a full disk must not keep the daemon from starting.
    let mut file = lock.file();
    let _ = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(lock)
}

/// Opens or makes the database and brings it to [`FORMAT`].
pub(super) fn open(path: &Path, newest: u64, migrations: &[Migration]) -> Result<Database, Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io_error("cannot open", path))?;
    let private = file
        .metadata()
        .is_ok_and(|m| m.permissions().mode() & 0o077 == 0);
    if !private {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .map_err(io_error("cannot make private", path))?;
    }
    drop(file);

    let mut builder = Database::builder();
    builder
        .set_cache_size(CACHE_BYTES)
        // Every page's checksum, at every start: a damaged store is found here, not in mid-work.
        .set_check_integrity_on_open(true);
    // redb may panic on contents that no version of it wrote. Nothing shared is touched inside.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let database = builder.create(path).map_err(Fault::from)?;
        migrate(&database, newest, migrations).map(|found| (database, found))
    }));
    match opened {
        Ok(Ok((_, found))) if found > newest => Err(Error::Newer {
            path: path.to_owned(),
            found,
            known: newest,
        }),
        Ok(Ok((database, _))) => Ok(database),
        Ok(Err(Fault::Io(source))) => Err(io_error("cannot open", path)(source)),
        Ok(Err(Fault::Damaged(detail))) => Err(Error::Damaged {
            path: path.to_owned(),
            detail,
        }),
        Ok(Err(Fault::InUse)) => Err(Error::InUse {
            folder: path.parent().unwrap_or(path).to_owned(),
            pid: "?".to_owned(),
        }),
        Err(_) => Err(Error::Damaged {
            path: path.to_owned(),
            detail: "reading it made the database panic".to_owned(),
        }),
    }
}

/// Says which format the file had; brings it to `newest` unless it is newer than that.
fn migrate(database: &Database, newest: u64, migrations: &[Migration]) -> Result<u64, Fault> {
    let found = match database.begin_read()?.open_table(META) {
        Ok(meta) => match meta.get(FORMAT_KEY)? {
            Some(format) => format.value(),
            None => return Err(Fault::Damaged("it does not say its format".to_owned())),
        },
        Err(redb::TableError::TableDoesNotExist(_)) => 0,
        Err(error) => return Err(error.into()),
    };
    if found >= newest {
        return Ok(found);
    }
    let transaction = database.begin_write()?;
    {
        // 0 is an empty file: there is nothing to migrate.
        for step in migrations
            .iter()
            .skip(
                usize::try_from(found)
                    .unwrap_or(usize::MAX)
                    .saturating_sub(1),
            )
            .take(if found == 0 { 0 } else { usize::MAX })
        {
            step(&transaction)?;
        }
        transaction.open_table(META)?.insert(FORMAT_KEY, newest)?;
    }
    transaction.commit()?;
    Ok(found)
}

/// Puts a damaged store away under a name that says when.
pub(super) fn set_aside(path: &Path, reason: String) -> Result<SetAside, Error> {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".corrupt-{seconds}"));
    let mut aside = PathBuf::from(name);
    // Two within one second: never write over the first.
    let mut n = 1;
    while aside.exists() {
        n += 1;
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".corrupt-{seconds}-{n}"));
        aside = name.into();
    }
    std::fs::rename(path, &aside).map_err(io_error("cannot put aside", path))?;
    Ok(SetAside {
        path: aside,
        reason,
    })
}
