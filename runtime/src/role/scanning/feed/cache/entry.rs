//! One folder's entry: the number of a full pass, a hash of the folder's path, then files of 12 bytes
//! each, by id.

/// Bytes of one file.
const FILE: usize = 12;
/// Bytes of the full pass's number, and of the path's hash.
const FULL: usize = 4;
const PATH: usize = 8;

/// More files of one folder are not remembered, and are passed again by each pass: what is known of a folder
/// is in memory while it is walked.
const MOST: usize = 1 << 20;

/// What of a folder has been judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Known {
    /// The last full pass that came here; 0 for none.
    pub(in super::super) full: u32,
    /// A hash of where the folder was. Elsewhere, nothing is known of its files: what was found in them
    /// was found at other paths.
    pub(super) path: u64,
    /// Sorted by id; each at most once.
    files: Vec<u8>,
}

impl Known {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (full, rest) = bytes.split_first_chunk::<FULL>()?;
        let (path, files) = rest.split_first_chunk::<PATH>()?;
        files.len().is_multiple_of(FILE).then(|| Self {
            full: u32::from_le_bytes(*full),
            path: u64::from_le_bytes(*path),
            files: files.to_vec(),
        })
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = self.full.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.path.to_le_bytes());
        bytes.extend_from_slice(&self.files);
        bytes
    }

    /// How many files.
    pub(in super::super) fn len(&self) -> usize {
        self.files.len() / FILE
    }

    /// Whether a file has been judged as it is.
    pub(in super::super) fn has(&self, id: u32, stamp: u64) -> bool {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.file(middle) {
                Some((found, known)) if found == id => return known == stamp,
                Some((found, _)) if found < id => low = middle + 1,
                _ => high = middle,
            }
        }
        false
    }

    fn file(&self, index: usize) -> Option<(u32, u64)> {
        let (id, stamp) = self.files.get(index * FILE..)?.split_first_chunk::<4>()?;
        let stamp = stamp.first_chunk::<8>()?;
        Some((u32::from_le_bytes(*id), u64::from_le_bytes(*stamp)))
    }

    /// The same without files that are not in `keep`, and with those that are `added`: both sorted by id.
    pub(super) fn change(&mut self, keep: Option<&[u32]>, added: &[(u32, u64)]) {
        let before = std::mem::take(&mut self.files);
        let old = Self {
            files: before,
            ..Self::default()
        };
        let mut files = Vec::with_capacity(old.files.len() + added.len() * FILE);
        let mut push = |(id, stamp): (u32, u64)| {
            files.extend_from_slice(&id.to_le_bytes());
            files.extend_from_slice(&stamp.to_le_bytes());
        };
        let mut added = added.iter().copied().peekable();
        for (id, stamp) in (0..old.len()).filter_map(|index| old.file(index)) {
            while let Some(new) = added.next_if(|(new, _)| *new < id) {
                push(new);
            }
            if let Some(new) = added.next_if(|(new, _)| *new == id) {
                push(new);
            } else if keep.is_none_or(|keep| keep.binary_search(&id).is_ok()) {
                push((id, stamp));
            }
        }
        added.for_each(push);
        files.truncate(MOST * FILE);
        self.files = files;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a map.
        #[test]
        fn changes_are_those_of_a_map(
            steps in prop::collection::vec(
                (prop::option::of(prop::collection::btree_set(0u32..40, 0..20)),
                 prop::collection::btree_map(0u32..40, any::<u64>(), 0..20)),
                0..8,
            ),
        ) {
            let mut known = Known::default();
            let mut model = BTreeMap::new();
            for (keep, added) in steps {
                let kept: Option<Vec<u32>> = keep.map(|keep| keep.into_iter().collect());
                if let Some(keep) = &kept {
                    model.retain(|id, _| keep.contains(id));
                }
                model.extend(added.clone());
                let added: Vec<_> = added.into_iter().collect();
                known.change(kept.as_deref(), &added);
                known = Known::read(&known.write()).unwrap();
                prop_assert_eq!(known.len(), model.len());
                for id in 0..40 {
                    let stamp = model.get(&id).copied();
                    prop_assert_eq!(known.has(id, stamp.unwrap_or(7)), stamp.is_some());
                    prop_assert!(!known.has(id, stamp.unwrap_or(7).wrapping_add(1)));
                }
            }
        }
    }

    #[test]
    fn a_folder_of_millions_is_remembered_in_part() {
        let many: Vec<_> = (0..MOST as u32 + 9).map(|id| (id, 7)).collect();
        let mut known = Known::default();
        known.change(None, &many);
        assert_eq!(known.len(), MOST);
        assert!(known.has(0, 7) && !known.has(MOST as u32 + 8, 7));
    }

    #[test]
    fn what_is_no_entry_is_not_read() {
        assert_eq!(Known::read(&[0; 3]), None);
        assert_eq!(Known::read(&[0; 23]), None);
        assert_eq!(Known::read(&[0; 24]).unwrap().len(), 1);
    }
}
