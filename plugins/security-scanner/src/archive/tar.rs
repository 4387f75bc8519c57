//! Tar: headers of 512 bytes, each before its content.

use super::{Trouble, Walk};

const BLOCK: usize = 512;

/// Whether data begins with a header: its checksum says so.
pub(super) fn is_header(data: &[u8]) -> bool {
    let Some(header) = data.first_chunk::<BLOCK>() else {
        return false;
    };
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    let field = &header[148..156];
    let of_field: u64 = field.iter().map(|byte| u64::from(*byte)).sum();
    // The field counts as blanks.
    header[0] != 0 && number(field) == Some(sum - of_field + 8 * u64::from(b' '))
}

pub(super) fn members(walk: &mut Walk<'_>, data: &[u8]) {
    let mut at = 0;
    while let Some(header) = data.get(at..).and_then(<[u8]>::first_chunk::<BLOCK>) {
        // Zeros end an archive.
        if header.iter().all(|byte| *byte == 0) {
            return;
        }
        let size = number(&header[124..136]).filter(|_| is_header(header));
        let Some(size) = size.and_then(|size| usize::try_from(size).ok()) else {
            return walk.trouble(Trouble::Damaged);
        };
        let start = at + BLOCK;
        let end = start.saturating_add(size);
        let content = data.get(start..end.min(data.len())).unwrap_or_default();
        let name = header[..100]
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        // Files; the others are folders, links and names.
        if matches!(header[156], 0 | b'0' | b'7') {
            walk.plain(name, content);
        }
        if end > data.len() || walk.members == 0 {
            return walk.trouble(if end > data.len() {
                Trouble::Damaged
            } else {
                Trouble::TooMany
            });
        }
        at = end.next_multiple_of(BLOCK);
    }
}

/// In octal digits, or in bytes if the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if let [0x80, bytes @ ..] = field {
        let (high, low) = bytes.split_at(bytes.len().saturating_sub(8));
        let fits = high.iter().all(|byte| *byte == 0);
        return fits.then(|| {
            low.iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        });
    }
    let digits = field.iter().skip_while(|byte| **byte == b' ');
    let digits = digits.take_while(|byte| !matches!(byte, 0 | b' '));
    digits
        .into_iter()
        .try_fold(0u64, |number, digit| match digit {
            b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
            _ => None,
        })
}
