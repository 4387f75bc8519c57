//! Extended attributes, and where links point to.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::fs::{getxattr, listxattr};
use rustix::io::Errno;

use super::root::descriptor_path;

/// The kernel's own bounds: `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`.
const LONGEST: usize = 64 << 10;
/// The most that is passed of one file.
const MOST: usize = 256 << 10;

/// The attributes of what `place` is, as `NAME \0 LENGTH VALUE`, sorted by name. Also of a link: its place
/// is the link itself.
pub(super) fn of(place: impl AsFd) -> Result<Vec<u8>, Errno> {
    // Through its path, because an `O_PATH` descriptor has none itself.
    let path = descriptor_path(&place);
    let mut list = Vec::with_capacity(LONGEST);
    match listxattr(path.as_str(), spare_capacity(&mut list)) {
        Ok(_) => {}
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let mut names: Vec<&CStr> = list
        .split_inclusive(|byte| *byte == 0)
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
        .collect();
    names.sort_unstable();
    let mut packed = Vec::new();
    let mut value = Vec::new();
    for name in names {
        value.clear();
        value.reserve(LONGEST);
        match getxattr(path.as_str(), name, spare_capacity(&mut value)) {
            Ok(_) => {}
            // Gone since, or nobody's to read.
            Err(Errno::NODATA | Errno::NOTSUP) => continue,
            Err(error) => return Err(error),
        }
        if packed.len() + name.count_bytes() + value.len() > MOST {
            return Err(Errno::TOOBIG);
        }
        packed.extend_from_slice(name.to_bytes_with_nul());
        packed.extend_from_slice(&(value.len() as u32).to_le_bytes());
        packed.extend_from_slice(&value);
    }
    Ok(packed)
}

/// Where the link `place` points to.
pub(super) fn target(place: impl AsFd) -> Result<Vec<u8>, Errno> {
    rustix::fs::readlinkat(place, c"", Vec::new()).map(|target| target.into_bytes())
}
