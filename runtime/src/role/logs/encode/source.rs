//! A source's members, written once and reused for every line that comes from it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use memchr::memmem::Finder;

use super::super::batch::Source;
use super::text::push_string;

/// Sources remembered before all are forgotten: far above what one lane reads at a time, and it
/// bounds the memory that deleted pods leave behind.
const REMEMBERED: usize = 1024;

/// What becomes of dots in the names of a pod's labels and annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dots {
    /// They stay.
    Kept,
    /// They become underscores.
    Replaced,
}

impl Dots {
    fn name<'a>(self, name: &'a str) -> Cow<'a, str> {
        let prefixes = ["k8s.pod.label.", "k8s.pod.annotation."];
        let of_pod = prefixes.iter().find(|prefix| name.starts_with(**prefix));
        match of_pod {
            Some(prefix) if self == Self::Replaced => {
                let own = name[prefix.len()..].replace('.', "_");
                Cow::Owned(format!("{prefix}{own}"))
            }
            _ => Cow::Borrowed(name),
        }
    }
}

/// The members that tell where a line came from.
#[derive(Debug)]
pub(super) struct Fragment {
    text: Vec<u8>,
    names: Vec<Vec<u8>>,
    probe: Finder<'static>,
}

impl Fragment {
    pub(super) fn new(source: &Source, dots: Dots) -> Self {
        let mut text = Vec::new();
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut member = |name: &[u8], value: &[u8]| {
            let mut quoted = Vec::with_capacity(name.len() + 2);
            push_string(name, &mut quoted);
            // Two labels may differ in a dot alone.
            if names.contains(&quoted) {
                return;
            }
            text.push(b',');
            text.extend_from_slice(&quoted);
            text.push(b':');
            push_string(value, &mut text);
            names.push(quoted);
        };
        if source.attributes.is_empty() {
            member(b"file", source.path.as_os_str().as_bytes());
        }
        for (name, value) in &source.attributes {
            member(dots.name(name).as_bytes(), value.as_bytes());
        }
        let mut common: &[u8] = names.first().map(Vec::as_slice).unwrap_or_default();
        for name in &names {
            let same = common.iter().zip(name).take_while(|(a, b)| a == b).count();
            common = &common[..same];
        }
        let probe = Finder::new(common).into_owned();
        Self { text, names, probe }
    }

    /// The members, each with a comma before it.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether `name`, with its quotes, is one of the members.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.names.iter().any(|own| own == name)
    }

    /// Finds what all the names start with, so one scan rules all of them out.
    pub(super) fn probe(&self) -> &Finder<'static> {
        &self.probe
    }
}

/// What was made of each source seen lately.
#[derive(Debug)]
pub struct BySource<T> {
    /// Each with its source, which keeps the allocation alive, so that its address names this source
    /// and no other.
    known: Vec<(Arc<Source>, T)>,
    by_address: HashMap<usize, usize>,
    last: usize,
}

impl<T> Default for BySource<T> {
    fn default() -> Self {
        Self {
            known: Vec::new(),
            by_address: HashMap::new(),
            last: 0,
        }
    }
}

impl<T> BySource<T> {
    /// What is known of `source`, made now if it is not.
    pub fn of(&mut self, source: &Arc<Source>, make: impl FnOnce(&Source) -> T) -> &T {
        let is_last = self
            .known
            .get(self.last)
            .is_some_and(|(known, _)| Arc::ptr_eq(known, source));
        if !is_last {
            self.last = self.find(source, make);
        }
        &self.known[self.last].1
    }

    fn find(&mut self, source: &Arc<Source>, make: impl FnOnce(&Source) -> T) -> usize {
        let address = Arc::as_ptr(source).addr();
        if let Some(&index) = self.by_address.get(&address) {
            return index;
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
            self.by_address.clear();
        }
        self.known.push((Arc::clone(source), make(source)));
        let index = self.known.len() - 1;
        self.by_address.insert(address, index);
        index
    }
}
