//! Which paths a subscriber is shown.

use crate::manifest::{GlobPart, NodeGlob, Tree};

/// Trees, and what of them is left out.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    pub(super) roots: Vec<Tree>,
    pub(super) exclude: Vec<NodeGlob>,
    pub(super) one_file_system: bool,
}

/// How far a folder's path has come through globs that leave out: only those that may still match below.
#[derive(Debug, Clone, Default)]
pub(super) struct Trail(Box<[Live]>);

#[derive(Debug, Clone, Copy)]
struct Live {
    glob: u32,
    /// Bit i: the glob's first i components stand for the path. A glob has at most 64.
    positions: u128,
}

impl Trail {
    /// Whether nothing below is left out.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Scope {
    /// Where all globs begin.
    pub(super) fn top(&self) -> Trail {
        let globs = self.exclude.iter().enumerate().map(|(i, glob)| Live {
            glob: i as u32,
            positions: reach(glob.parts(), 1),
        });
        Trail(globs.collect())
    }

    /// One component further; none if that is left out.
    pub(super) fn step(&self, trail: &Trail, name: &[u8]) -> Option<Trail> {
        if trail.0.is_empty() {
            return Some(Trail::default());
        }
        // Globs are of text; what is none is matched by wildcards alone.
        let name = String::from_utf8_lossy(name);
        let mut below = Vec::new();
        for live in &trail.0 {
            let Some(glob) = self.exclude.get(live.glob as usize) else {
                continue;
            };
            let (positions, matched) = advance(glob.parts(), live.positions, &name);
            if matched {
                return None;
            }
            if positions != 0 {
                below.push(Live { positions, ..*live });
            }
        }
        Some(Trail(below.into()))
    }

    /// Where the globs are at a folder's path; none if it is left out.
    pub(super) fn at(&self, path: &[u8]) -> Option<Trail> {
        components(path).try_fold(self.top(), |trail, name| self.step(&trail, name))
    }

    /// The innermost tree with `path` in it, if the path is not left out.
    pub(super) fn root_of(&self, path: &[u8]) -> Option<&Tree> {
        let roots = self.roots.iter().filter(|root| below(root, path));
        let root = roots.max_by_key(|root| root.as_str().len())?;
        self.at(path).map(|_| root)
    }
}

/// Whether `path` is `root` or below it.
pub(super) fn below(root: &Tree, path: &[u8]) -> bool {
    match root {
        Tree::Root => true,
        Tree::Below(root) => path
            .strip_prefix(root.as_str().as_bytes())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")),
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|it| !it.is_empty())
}

/// `**` may stand for nothing, unless it is the last: `/a/**` is what is in `/a`, not `/a`.
fn reach(parts: &[GlobPart], mut positions: u128) -> u128 {
    for (i, part) in parts.iter().enumerate() {
        let inner = i + 1 < parts.len();
        if inner && matches!(part, GlobPart::Folders) && positions & (1 << i) != 0 {
            positions |= 1 << (i + 1);
        }
    }
    positions
}

/// The positions after one more name, and whether the whole glob stands for the path now.
fn advance(parts: &[GlobPart], positions: u128, name: &str) -> (u128, bool) {
    let mut next = 0;
    for (i, part) in parts.iter().enumerate() {
        if positions & (1 << i) == 0 {
            continue;
        }
        match part {
            GlobPart::Folders if i + 1 == parts.len() => return (0, true),
            GlobPart::Folders => next |= 1 << i,
            GlobPart::Literal(literal) if literal == name => next |= 1 << (i + 1),
            GlobPart::Glob(glob) if glob.matches(name) => next |= 1 << (i + 1),
            GlobPart::Literal(_) | GlobPart::Glob(_) => {}
        }
    }
    let next = reach(parts, next);
    (next, next & (1 << parts.len()) != 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn left_out(globs: &[&str], path: &str) -> bool {
        let exclude = globs.iter().map(|glob| NodeGlob::parse(glob).unwrap());
        let scope = Scope {
            exclude: exclude.collect(),
            ..Scope::default()
        };
        scope.at(path.as_bytes()).is_none()
    }

    #[test]
    fn a_glob_leaves_out_what_it_names_and_all_below() {
        for (glob, path, out) in [
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/b/c/d", true),
            ("/a/b", "/a/bc", false),
            ("/a/b", "/a", false),
            ("/a/**", "/a", false),
            ("/a/**", "/a/b", true),
            ("/a/**/x", "/a/x", true),
            ("/a/**/x", "/a/b/c/x", true),
            ("/a/**/x", "/a/b/c/y", false),
            ("/a/**/x/*.o", "/a/b/x/q/x/1.o", true),
            ("/home/*/.cache", "/home/me/.cache/x", true),
            ("/home/*/.cache", "/home/me/a/.cache", false),
            ("/**/*.iso", "/srv/images/a.iso", true),
            ("/**/*.iso", "/a.iso", true),
            ("/**/**/b", "/b", true),
            ("/*", "/a", true),
        ] {
            assert_eq!(left_out(&[glob], path), out, "{glob} and {path}");
        }
        assert!(left_out(&["/a", "/b"], "/b"));
        assert!(!left_out(&[], "/b"));
    }

    #[test]
    fn names_that_are_no_text_are_matched_by_wildcards() {
        let scope = Scope {
            exclude: vec![NodeGlob::parse("/x/*").unwrap()],
            ..Scope::default()
        };
        assert!(scope.at(b"/x/\xff\n").is_none());
        assert!(scope.at(b"/y/\xff\n").is_some());
    }

    #[test]
    fn the_innermost_tree_is_told() {
        let tree = |text: &str| Tree::try_from(text.to_owned()).unwrap();
        let scope = Scope {
            roots: vec![tree("/"), tree("/usr")],
            ..Scope::default()
        };
        assert_eq!(scope.root_of(b"/usr/bin/x"), Some(&tree("/usr")));
        assert_eq!(scope.root_of(b"/usrlocal"), Some(&tree("/")));
        let scope = Scope {
            roots: vec![tree("/usr")],
            ..Scope::default()
        };
        assert_eq!(scope.root_of(b"/usrlocal"), None);
    }
}
