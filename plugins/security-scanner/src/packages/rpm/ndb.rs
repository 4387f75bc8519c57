//! rpm's own database of packages (`Packages.db`): pages of slots, each of which says where a header is.

use super::{Bytes, Take, number};

/// `RpmP`, `Slot` and `BlbS`, as numbers with the low byte first.
const MAGIC: u32 = u32::from_le_bytes(*b"RpmP");
const SLOT: u32 = u32::from_le_bytes(*b"Slot");
const BLOB: u32 = u32::from_le_bytes(*b"BlbS");
const PAGE: usize = 4096;
/// Bytes before the first slot, of a slot, and what places of headers are counted in.
const HEADER: usize = 32;
const SLOT_BYTES: usize = 16;
const BLOCK: u64 = 16;
/// Pages of slots; rpm makes a new one for 256 packages.
const MAX_PAGES: u32 = 4096;

/// Tells `take` of each package's header in `file`.
pub(super) fn blobs(file: &mut dyn Bytes, take: &mut dyn Take) -> Result<(), String> {
    const DAMAGED: &str = "it is damaged, or was being written";
    let header = file.read(0, HEADER).ok_or(DAMAGED)?;
    let word = |at| number::<4>(&header, at).map_or(0, u32::from_le_bytes);
    if word(0) != MAGIC || word(4) != 0 {
        return Err("it is no database of rpm, or of a later version".into());
    }
    let pages = word(12);
    if pages > MAX_PAGES {
        return Err(DAMAGED.into());
    }
    for page in 0..pages {
        let slots = file
            .read(u64::from(page) * PAGE as u64, PAGE)
            .ok_or(DAMAGED)?;
        let from = if page == 0 { HEADER } else { 0 };
        for slot in slots
            .get(from..)
            .unwrap_or_default()
            .chunks_exact(SLOT_BYTES)
        {
            let word = |at| number::<4>(slot, at).map_or(0, u32::from_le_bytes);
            if word(0) != SLOT {
                return Err(DAMAGED.into());
            }
            let package = word(4);
            if package == 0 {
                continue;
            }
            let at = u64::from(word(8)) * BLOCK;
            let going = take.header(&mut |wanted| {
                let head = file.read(at, 16)?;
                let word = |at| number::<4>(&head, at).map_or(0, u32::from_le_bytes);
                if word(0) != BLOB || word(4) != package {
                    return None;
                }
                file.read(at + 16, wanted.min(word(12) as usize))
            });
            if !going {
                return Ok(());
            }
        }
    }
    Ok(())
}
