//! The smallest part of SQLite's file format that reads one table from beginning to end: b-trees of tables,
//! records, and pages that a long value goes on in. <https://sqlite.org/fileformat.html>
//!
//! Indexes, other encodings than UTF-8, and changes that are still in a log are not read.

use super::{Bytes, Take, number};

const MAGIC: &[u8] = b"SQLite format 3\0";
/// Of page 1, the file's own header.
const HEADER: usize = 100;
const INTERIOR: u8 = 0x05;
const LEAF: u8 = 0x0d;
/// Deeper trees are made by nobody but an attacker.
const DEEPEST: usize = 20;
/// More rows are looked at of no table.
const MAX_ROWS: usize = 100_000;
/// Columns that are looked at.
const COLUMNS: usize = 8;
/// A record that is no package's is never longer.
const MAX_RECORD: usize = 64 << 10;

/// Tells `take` of each package's header in `file`.
pub(super) fn blobs(file: &mut dyn Bytes, take: &mut dyn Take) -> Result<(), String> {
    let mut database = Database::open(file)?;
    let mut root = None;
    database.table(1, &mut |database, cell| {
        let record = database.value(cell, MAX_RECORD)?;
        let columns = columns(&record)?;
        let text = |i: usize| {
            let (at, length) = *columns.get(i)?;
            record.get(at..at.checked_add(length)?)
        };
        if text(0) == Some(b"table") && text(1) == Some(b"Packages") {
            root = text(3).and_then(integer);
        }
        Some(root.is_none())
    })?;
    let root = root.ok_or("it has no table Packages")?;
    let root = u32::try_from(root).map_err(|_| DAMAGED)?;
    database.table(root, &mut |database, cell| {
        // The number of the row, which is not here, and the header.
        let record = database.value(cell, HEADER)?;
        let (start, _) = *columns(&record)?.get(1)?;
        // Before the header is nothing but the number, which takes no bytes.
        if start > HEADER {
            return None;
        }
        let going = take.header(&mut |wanted| {
            let mut value = database.value(cell, start.checked_add(wanted)?)?;
            (value.len() >= start).then(|| value.split_off(start))
        });
        Some(going)
    })
}

const DAMAGED: &str = "it is damaged, or was being written";

struct Database<'f> {
    file: &'f mut dyn Bytes,
    page_size: usize,
    /// Bytes of a page that are used.
    usable: usize,
    pages: u32,
}

/// One row: what of its record is in the page, and where the rest is.
#[derive(Debug)]
struct Cell {
    local: Vec<u8>,
    length: usize,
    more: u32,
}

/// Is shown each row of a table; whether to go on, or none if it is damaged.
type Rows<'r> = &'r mut dyn FnMut(&mut Database<'_>, &Cell) -> Option<bool>;

impl<'f> Database<'f> {
    fn open(file: &'f mut dyn Bytes) -> Result<Self, String> {
        let header = file.read(0, HEADER).ok_or(DAMAGED)?;
        if !header.starts_with(MAGIC) {
            return Err("it is no database of SQLite".into());
        }
        let page_size = match number::<2>(&header, 16).map_or(0, u16::from_be_bytes) {
            1 => 65536,
            size => usize::from(size),
        };
        let reserved = usize::from(header.get(20).copied().unwrap_or(0));
        if !(512..=65536).contains(&page_size) || !page_size.is_power_of_two() || reserved > 32 {
            return Err(DAMAGED.into());
        }
        match number::<4>(&header, 56).map(u32::from_be_bytes) {
            Some(0 | 1) => {}
            _ => return Err("its texts are not UTF-8".into()),
        }
        let pages = file.length() / page_size as u64;
        Ok(Self {
            file,
            page_size,
            usable: page_size - reserved,
            pages: u32::try_from(pages).unwrap_or(u32::MAX),
        })
    }

    fn page(&mut self, number: u32) -> Option<Vec<u8>> {
        if !(1..=self.pages).contains(&number) {
            return None;
        }
        let at = u64::from(number - 1) * self.page_size as u64;
        self.file.read(at, self.page_size)
    }

    /// All rows of the table at a page.
    fn table(&mut self, root: u32, row: Rows<'_>) -> Result<(), String> {
        let mut waiting = vec![(root, 0)];
        // Each page is in a tree once: more steps than pages are a loop.
        let mut left = self.pages;
        let mut rows = 0;
        let mut row = |database: &mut Database<'_>, cell: &Cell| {
            rows += 1;
            (rows <= MAX_ROWS).then(|| row(database, cell)).flatten()
        };
        while let Some((page, depth)) = waiting.pop() {
            left = left.checked_sub(1).ok_or(DAMAGED)?;
            match self.tree_page(page, depth, &mut waiting, &mut row) {
                Some(true) => {}
                Some(false) => return Ok(()),
                None => return Err(DAMAGED.into()),
            }
        }
        Ok(())
    }

    fn tree_page(
        &mut self,
        number: u32,
        depth: usize,
        waiting: &mut Vec<(u32, usize)>,
        row: Rows<'_>,
    ) -> Option<bool> {
        let page = self.page(number)?;
        let start = if number == 1 { HEADER } else { 0 };
        let kind = *page.get(start)?;
        let cells = usize::from(u16::from_be_bytes(self::number(&page, start + 3)?));
        let first = start + if kind == INTERIOR { 12 } else { 8 };
        let pointers = page.get(first..first.checked_add(cells * 2)?)?;
        let pointers = pointers.as_chunks::<2>().0.iter();
        let pointers = pointers.map(|it| usize::from(u16::from_be_bytes(*it)));
        match kind {
            INTERIOR if depth < DEEPEST => {
                let before = waiting.len();
                for at in pointers {
                    let below = u32::from_be_bytes(self::number(&page, at)?);
                    waiting.push((below, depth + 1));
                }
                let last = u32::from_be_bytes(self::number(&page, start + 8)?);
                waiting.push((last, depth + 1));
                // The first of them is to come first.
                waiting.get_mut(before..)?.reverse();
                Some(true)
            }
            LEAF => {
                for at in pointers {
                    let cell = self.cell(&page, at)?;
                    if !row(self, &cell)? {
                        return Some(false);
                    }
                }
                Some(true)
            }
            _ => None,
        }
    }

    fn cell(&self, page: &[u8], at: usize) -> Option<Cell> {
        let (length, after) = varint(page.get(at..)?)?;
        let (_, local) = varint(after)?;
        let length = usize::try_from(length).ok()?;
        // See "Cell Payload Overflow Pages".
        let most = self.usable - 35;
        if length <= most {
            let local = local.get(..length)?.to_vec();
            let more = 0;
            return Some(Cell {
                local,
                length,
                more,
            });
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let here = least + (length - least) % (self.usable - 4);
        let here = if here <= most { here } else { least };
        Some(Cell {
            local: local.get(..here)?.to_vec(),
            length,
            more: u32::from_be_bytes(number(local, here)?),
        })
    }

    /// The first bytes of a row's record.
    fn value(&mut self, cell: &Cell, wanted: usize) -> Option<Vec<u8>> {
        let wanted = wanted.min(cell.length);
        let mut value = cell.local.clone();
        let mut next = cell.more;
        // Each page adds something, so that this ends.
        while value.len() < wanted {
            let page = self.page(next)?;
            next = u32::from_be_bytes(number(&page, 0)?);
            let rest = (cell.length - value.len()).min(self.usable - 4);
            value.extend_from_slice(page.get(4..4 + rest)?);
        }
        value.truncate(wanted);
        Some(value)
    }
}

/// Where in a record its first columns are, and how long: all of them but numbers that are zero or one.
fn columns(record: &[u8]) -> Option<Vec<(usize, usize)>> {
    let (header, mut types) = varint(record)?;
    let mut at = usize::try_from(header).ok()?;
    let before = record.len() - types.len();
    types = types.get(..at.checked_sub(before)?)?;
    let mut columns = Vec::new();
    while !types.is_empty() && columns.len() < COLUMNS {
        let (kind, rest) = varint(types)?;
        types = rest;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            // Bytes, or text.
            _ => (kind - 12) / 2,
        };
        let length = usize::try_from(length).ok()?;
        columns.push((at, length));
        at = at.checked_add(length)?;
    }
    Some(columns)
}

/// Big-endian, of up to eight bytes.
fn integer(bytes: &[u8]) -> Option<u64> {
    let fits = (1..=8).contains(&bytes.len());
    fits.then(|| {
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    })
}

/// A number of one to nine bytes, and what follows.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(9).enumerate() {
        if i == 8 {
            value = value << 8 | u64::from(*byte);
            return Some((value, bytes.get(9..)?));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(i + 1..)?));
        }
    }
    None
}
