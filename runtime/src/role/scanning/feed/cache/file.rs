//! The store's file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Database, ReadableTable, TableDefinition};

/// In the state's folder.
pub(super) const NAME: &str = "scan.redb";
/// The layout. Another one is begun anew.
const FORMAT: u64 = 3;
/// Pages are looked up once a folder, in the order of a walk, and the kernel has them besides.
const CACHE_BYTES: usize = 1 << 20;

/// Name to the layout's version and the seed of the hashes.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Identity to number.
pub(super) const SUBSCRIBERS: TableDefinition<'_, &str, u32> = TableDefinition::new("subscribers");
/// The next subscriber's number.
pub(super) const NUMBERS: TableDefinition<'_, (), u32> = TableDefinition::new("numbers");
/// Number to a [`super::PassRecord`].
pub(super) const PASSES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("passes");
/// (number, device, inode) of a folder to a [`super::Known`].
pub(super) const FOLDERS: TableDefinition<'_, (u32, u64, u64), &[u8]> =
    TableDefinition::new("folders");

/// An open store.
pub(super) struct State {
    pub(super) database: Database,
    pub(super) seed: u64,
}

/// Opens the store, or begins a new one.
pub(super) fn open(folder: &Path) -> io::Result<State> {
    let path = folder.join(NAME);
    match attempt(&path) {
        Ok(Some(state)) => return Ok(state),
        Ok(None) => tracing::info!(
            path = %path.display(),
            "the scan cache has another layout: it is begun anew, and all files are scanned again",
        ),
        Err(redb::Error::Io(error)) if !is_damage(&error) => return Err(error),
        Err(error @ redb::Error::DatabaseAlreadyOpen) => return Err(io::Error::other(error)),
        Err(error) => tracing::warn!(
            path = %path.display(), %error,
            "the scan cache is damaged: it is begun anew, and all files are scanned again",
        ),
    }
    std::fs::remove_file(&path)?;
    match attempt(&path) {
        Ok(Some(state)) => Ok(state),
        Ok(None) => Err(io::ErrorKind::InvalidData.into()),
        Err(redb::Error::Io(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// How redb reports that a file is no database of its.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

/// None if it has another layout.
fn attempt(path: &Path) -> Result<Option<State>, redb::Error> {
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(redb::Error::Io)?;
    drop(file);
    // redb may panic on contents that no version of it wrote. Nothing shared is touched inside.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let mut builder = Database::builder();
        let database = builder.set_cache_size(CACHE_BYTES).create(path)?;
        prepare(&database).map(|seed| seed.map(|seed| State { database, seed }))
    }));
    opened.unwrap_or_else(|_| Err(redb::Error::Corrupted("it made the database panic".into())))
}

/// Makes the tables, if it is new. The seed, unless it has another layout.
fn prepare(database: &Database) -> Result<Option<u64>, redb::Error> {
    let transaction = database.begin_write()?;
    let seed = {
        let mut meta = transaction.open_table(META)?;
        let found = meta.get("format")?.map(|format| format.value());
        let seed = meta.get("seed")?.map(|seed| seed.value());
        match (found, seed) {
            (None, _) => {
                let seed = random()?;
                meta.insert("format", FORMAT)?;
                meta.insert("seed", seed)?;
                Some(seed)
            }
            (Some(FORMAT), Some(seed)) => Some(seed),
            _ => None,
        }
    };
    if seed.is_some() {
        transaction.open_table(SUBSCRIBERS)?;
        transaction.open_table(NUMBERS)?;
        transaction.open_table(PASSES)?;
        transaction.open_table(FOLDERS)?;
        transaction.commit()?;
    }
    Ok(seed)
}

/// The kernel's, since nobody is to guess it.
fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
