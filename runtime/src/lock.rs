//! Files that keep others out while they are held.

use std::fs::{File, TryLockError};
use std::io;

/// A file that was locked for this process; others may have it when this is dropped.
///
/// The lock is one of the open file (`flock(2)`), which every child has for a moment, between fork and
/// exec. So it is given back in so many words: closing alone would leave it to whatever child is just
/// being started.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Locks `file`; gives it back if somebody else has.
    pub(crate) fn take(file: File) -> io::Result<Result<Self, File>> {
        match file.try_lock() {
            Ok(()) => Ok(Ok(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(Err(file)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Cannot fail for a lock that is held; and closing follows.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_lock_ends_with_its_owner_whoever_has_the_file_open() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let open = || File::options().write(true).open(&path).unwrap();
        let lock = Lock::take(open()).unwrap().unwrap();
        // As a child has it until it calls exec.
        let _childs = lock.file().try_clone().unwrap();
        assert!(Lock::take(open()).unwrap().is_err());
        drop(lock);
        assert!(Lock::take(open()).unwrap().is_ok());
    }
}
