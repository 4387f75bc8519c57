//! Zip: a directory at the end says where members are.

use super::{Trouble, Walk, unpack};

/// After the directory there are a record of this size and a comment.
const END: usize = 22;
const MAX_COMMENT: usize = 0xffff;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

pub(super) fn members(walk: &mut Walk<'_>, data: &[u8]) {
    let from = data.len().saturating_sub(END + MAX_COMMENT);
    let end = memchr::memmem::rfind(&data[from..], b"PK\x05\x06").map(|at| from + at);
    let directory = end
        .and_then(|end| u32_at(data, end + 16))
        .map(|offset| offset as usize);
    let Some(mut at) = directory else {
        return walk.trouble(Trouble::Damaged);
    };
    if at == u32::MAX as usize {
        return walk.trouble(Trouble::Unsupported);
    }
    while data.get(at..at.saturating_add(4)) == Some(b"PK\x01\x02") {
        if walk.members == 0 {
            return walk.trouble(Trouble::TooMany);
        }
        let Some(next) = member(walk, data, at) else {
            return walk.trouble(Trouble::Damaged);
        };
        at = next;
    }
    if end.is_none_or(|end| at > end) {
        walk.trouble(Trouble::Damaged);
    }
}

/// The member of the directory's entry at `at`, and where the next entry is.
fn member(walk: &mut Walk<'_>, data: &[u8], at: usize) -> Option<usize> {
    let (flags, method) = (u16_at(data, at + 8)?, u16_at(data, at + 10)?);
    let packed = u32_at(data, at + 20)? as usize;
    let lengths = [
        u16_at(data, at + 28)?,
        u16_at(data, at + 30)?,
        u16_at(data, at + 32)?,
    ];
    let [name_length, extra, comment] = lengths.map(usize::from);
    let local = u32_at(data, at + 42)? as usize;
    let name_at = at + 46;
    let name = data.get(name_at..name_at + name_length)?;
    let next = name_at + name_length + extra + comment;
    let start = content_start(data, local);
    let end = start.map(|start| start.saturating_add(packed));
    let content = start.zip(end).and_then(|(start, end)| data.get(start..end));
    match (content, method) {
        _ if flags & 1 != 0 => walk.trouble(Trouble::Encrypted),
        _ if packed == u32::MAX as usize || local == u32::MAX as usize => {
            walk.trouble(Trouble::Unsupported);
        }
        (None, _) => walk.trouble(Trouble::Damaged),
        (Some(content), STORED) => walk.plain(name, content),
        (Some(content), DEFLATED) => {
            let name = String::from_utf8_lossy(name);
            walk.packed(&name, unpack::deflate(content), content.len());
        }
        _ => walk.trouble(Trouble::Unsupported),
    }
    Some(next)
}

/// After the header that each member has.
fn content_start(data: &[u8], local: usize) -> Option<usize> {
    if data.get(local..local.checked_add(4)?)? != b"PK\x03\x04" {
        return None;
    }
    let (name, extra) = (u16_at(data, local + 26)?, u16_at(data, local + 28)?);
    Some(local + 30 + usize::from(name) + usize::from(extra))
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_le_bytes)
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_le_bytes)
}
