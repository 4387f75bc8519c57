//! One pass over the data for the rarest bytes of all strings at once.
//!
//! At each place, four bytes are hashed into a bitmap that stays in the nearest cache. The hashes of
//! neighbouring places do not depend on each other, so that a processor works on several at once; an
//! automaton would wait for a load from memory at each byte.

use super::atoms::LENGTH;
use super::needle::Atom;

const HASH_BITS: u32 = 18;
const BUCKET_BITS: u32 = 14;
/// Two bytes are their own hash.
const PAIRS: usize = 1 << 16;
/// Places that are looked at before one branch.
const STRIDE: usize = 8;

#[derive(Debug)]
pub(crate) struct Filter {
    multiplier: u32,
    words: Bitmap<{ 1 << (HASH_BITS - 6) }>,
    buckets: Vec<u32>,
    entries: Vec<Entry>,
    /// For atoms that are shorter.
    pairs: Option<Short<{ PAIRS >> 6 }>>,
    /// For strings that are only known by single bytes.
    bytes: Option<Short<4>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    hash: u32,
    word: u32,
    found: Found,
}

/// A needle that may be `back` before the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    pub(crate) needle: u32,
    pub(crate) back: u32,
}

#[derive(Debug)]
struct Bitmap<const WORDS: usize>(Box<[u64; WORDS]>);

impl<const WORDS: usize> Bitmap<WORDS> {
    fn new() -> Self {
        Self(Box::new([0; WORDS]))
    }

    fn set(&mut self, bit: u32) {
        self.0[bit as usize >> 6] |= 1 << (bit & 63);
    }

    #[inline(always)]
    fn get(&self, bit: u32) -> bool {
        self.0[bit as usize >> 6] >> (bit & 63) & 1 != 0
    }
}

/// Values that are their own hash, with what each may be.
#[derive(Debug)]
struct Short<const WORDS: usize> {
    bitmap: Bitmap<WORDS>,
    found: Vec<(u32, Found)>,
}

impl<const WORDS: usize> Short<WORDS> {
    fn new(mut found: Vec<(u32, Found)>) -> Option<Self> {
        found.sort_unstable();
        found.dedup();
        let mut bitmap = Bitmap::new();
        found.iter().for_each(|(value, _)| bitmap.set(*value));
        (!found.is_empty()).then_some(Self { bitmap, found })
    }

    #[inline(never)]
    fn report(&self, value: u32, at: usize, report: &mut impl FnMut(usize, Found)) {
        let first = self.found.partition_point(|(known, _)| *known < value);
        let same = self.found[first..]
            .iter()
            .take_while(|(known, _)| *known == value);
        same.for_each(|(_, found)| report(at, *found));
    }
}

impl Filter {
    pub(crate) fn new(atoms: &[Atom], by_byte: &[Atom]) -> Self {
        let (long, short): (Vec<&Atom>, Vec<&Atom>) =
            atoms.iter().partition(|atom| atom.bytes.len() == LENGTH);
        let found = |atom: &Atom| Found {
            needle: atom.needle,
            back: atom.back,
        };
        let known: Vec<(u32, Found)> = long
            .iter()
            .map(|atom| (little_endian(&atom.bytes), found(atom)))
            .collect();
        let multiplier = multiplier(&known);
        let hash = |word: u32| word.wrapping_mul(multiplier) >> (32 - HASH_BITS);
        let entry = |(word, found)| Entry {
            hash: hash(word),
            word,
            found,
        };
        let mut entries: Vec<Entry> = known.into_iter().map(entry).collect();
        entries.sort_unstable();
        entries.dedup();
        let mut words = Bitmap::new();
        entries.iter().for_each(|entry| words.set(entry.hash));
        let buckets = (0..=1 << BUCKET_BITS).map(|bucket: u32| {
            entries.partition_point(|entry| entry.hash >> (HASH_BITS - BUCKET_BITS) < bucket) as u32
        });
        Self {
            multiplier,
            words,
            buckets: buckets.collect(),
            entries,
            pairs: Short::new(
                short
                    .iter()
                    .map(|atom| (little_endian(&atom.bytes[..2]), found(atom)))
                    .collect(),
            ),
            bytes: Short::new(
                by_byte
                    .iter()
                    .map(|atom| (little_endian(&atom.bytes), found(atom)))
                    .collect(),
            ),
        }
    }

    /// Calls `report` with each place and what may be there.
    pub(crate) fn run(&self, data: &[u8], mut report: impl FnMut(usize, Found)) {
        if !self.entries.is_empty() {
            self.run_words(data, &mut report);
        }
        if let Some(pairs) = &self.pairs {
            for (at, pair) in data.windows(2).enumerate() {
                let value = little_endian(pair);
                if pairs.bitmap.get(value) {
                    pairs.report(value, at, &mut report);
                }
            }
        }
        if let Some(bytes) = &self.bytes {
            for (at, byte) in data.iter().enumerate() {
                if bytes.bitmap.get(u32::from(*byte)) {
                    bytes.report(u32::from(*byte), at, &mut report);
                }
            }
        }
    }

    #[inline(always)]
    fn hash(&self, word: u32) -> u32 {
        word.wrapping_mul(self.multiplier) >> (32 - HASH_BITS)
    }

    fn run_words(&self, data: &[u8], report: &mut impl FnMut(usize, Found)) {
        const WINDOW: usize = STRIDE + LENGTH - 1;
        let mut at = 0;
        while let Some(window) = data.get(at..).and_then(<[u8]>::first_chunk::<WINDOW>) {
            let mut hits = 0;
            for place in 0..STRIDE {
                let word = word(window, place);
                hits |= u32::from(self.words.get(self.hash(word))) << place;
            }
            while hits != 0 {
                let place = hits.trailing_zeros() as usize;
                self.report(word(window, place), at + place, report);
                hits &= hits - 1;
            }
            at += STRIDE;
        }
        for (place, window) in data[at..].windows(LENGTH).enumerate() {
            let word = little_endian(window);
            if self.words.get(self.hash(word)) {
                self.report(word, at + place, report);
            }
        }
    }

    #[inline(never)]
    fn report(&self, word: u32, at: usize, report: &mut impl FnMut(usize, Found)) {
        let bucket = (self.hash(word) >> (HASH_BITS - BUCKET_BITS)) as usize;
        let (Some(first), Some(end)) = (self.buckets.get(bucket), self.buckets.get(bucket + 1))
        else {
            return;
        };
        for entry in &self.entries[*first as usize..*end as usize] {
            if entry.word == word {
                report(at, entry.found);
            }
        }
    }
}

#[inline(always)]
fn word<const WINDOW: usize>(window: &[u8; WINDOW], at: usize) -> u32 {
    u32::from_le_bytes([window[at], window[at + 1], window[at + 2], window[at + 3]])
}

fn little_endian(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// One that lets no bytes that files are full of meet those that are looked for.
fn multiplier(known: &[(u32, Found)]) -> u32 {
    let runs = (0..=255u32).map(|byte| byte * 0x0101_0101);
    let common: Vec<u32> = runs
        .chain(COMMON.iter().map(|bytes| little_endian(*bytes)))
        .collect();
    let meetings = |multiplier: &u32| {
        let hash = |word: u32| word.wrapping_mul(*multiplier) >> (32 - HASH_BITS);
        let mut bitmap = Bitmap::<{ 1 << (HASH_BITS - 6) }>::new();
        known.iter().for_each(|(word, _)| bitmap.set(hash(*word)));
        common
            .iter()
            .filter(|word| bitmap.get(hash(**word)))
            .count()
    };
    let candidates =
        (0..16u32).map(|round| 0x9e37_79b1u32.wrapping_add(round.wrapping_mul(0x3c6e_f372)));
    candidates.min_by_key(meetings).unwrap_or(0x9e37_79b1)
}

const COMMON: &[&[u8; 4]] = &[
    b"\0\0\0\x01",
    b"\x01\0\0\0",
    b"\0\x01\0\0",
    b"\0\0\x01\0",
    b" the",
    b"the ",
    b"tion",
    b"ing ",
    b"\n   ",
    b"   \n",
    b"\xff\xff\xff\0",
    b"\0\xff\xff\xff",
];
