//! Makes a component smaller without changing what it does: mangled names of functions, which are a third of a
//! small plugin, become those that a backtrace shows, and what only debuggers and linkers read is left out.

/// The longest name that is kept.
const LONGEST: usize = 96;

/// A component is 1, a component inside of it 4.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;
const CUSTOM: u8 = 0;
/// The subsection of `name` with the functions' names, in a core module.
const FUNCTIONS: u8 = 1;

/// The component with short names; as it is, if it cannot be read.
pub(super) fn shorten(component: &[u8]) -> Vec<u8> {
    let shortened = rewrite(component, true);
    shortened.unwrap_or_else(|| component.to_vec())
}

fn rewrite(binary: &[u8], is_component: bool) -> Option<Vec<u8>> {
    let (preamble, mut rest) = binary.split_at_checked(8)?;
    let mut out = preamble.to_vec();
    while let Some((&id, after)) = rest.split_first() {
        rest = after;
        let section = take(&mut rest)?;
        let new = match id {
            CORE_MODULE if is_component => Some(rewrite(section, false)?),
            COMPONENT if is_component => Some(rewrite(section, true)?),
            CUSTOM => custom(section, is_component)?,
            _ => Some(section.to_vec()),
        };
        if let Some(new) = new {
            out.push(id);
            number(new.len(), &mut out)?;
            out.extend(new);
        }
    }
    Some(out)
}

/// A custom section without what nobody needs, or nothing.
fn custom(section: &[u8], is_component: bool) -> Option<Option<Vec<u8>>> {
    let mut rest = section;
    let name = take(&mut rest)?;
    match name {
        b"name" if !is_component => functions(rest).map(Some),
        b"producers" | b"target_features" | b"component-name" => Some(None),
        _ => Some(Some(section.to_vec())),
    }
}

fn functions(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    put(b"name", &mut out)?;
    while let Some((&id, after)) = rest.split_first() {
        rest = after;
        let mut subsection = take(&mut rest)?;
        if id != FUNCTIONS {
            continue;
        }
        let count = read(&mut subsection)?;
        let mut names = Vec::new();
        number(count, &mut names)?;
        for _ in 0..count {
            number(read(&mut subsection)?, &mut names)?;
            let name = take(&mut subsection)?;
            let name = std::str::from_utf8(name).ok()?;
            put(short(name).as_bytes(), &mut names)?;
        }
        out.push(FUNCTIONS);
        put(&names, &mut out)?;
    }
    Some(out)
}

/// `alloc::vec::Vec<T,A>::push` as `alloc::vec::Vec::push`, demangled.
fn short(name: &str) -> String {
    let plain = format!("{:#}", rustc_demangle::demangle(name));
    let plain = match plain.rsplit_once("::h") {
        // The linker demangled it, and left the hash.
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|it| it.is_ascii_hexdigit()) => {
            path
        }
        _ => &plain,
    };
    let mut kept = String::new();
    let mut depth = 0_usize;
    let mut before = ' ';
    for letter in plain.chars() {
        let of_arrow = before == '-';
        match letter {
            '<' if depth > 0 || before.is_alphanumeric() || before == '_' || before == ':' => {
                if depth == 0 && kept.ends_with("::") {
                    kept.truncate(kept.len() - 2);
                }
                depth += 1;
            }
            '>' if depth > 0 && !of_arrow => depth -= 1,
            _ if depth > 0 => {}
            _ => kept.push(letter),
        }
        before = letter;
    }
    let end = kept.floor_char_boundary(LONGEST);
    kept.truncate(end);
    kept
}

/// An unsigned LEB128 number of at most 32 bits.
fn read(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return usize::try_from(u32::try_from(value).ok()?).ok();
        }
    }
    None
}

/// Bytes after their length.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = read(bytes)?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn number(value: usize, out: &mut Vec<u8>) -> Option<()> {
    let mut value = u32::try_from(value).ok()?;
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    Some(())
}

fn put(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    number(bytes.len(), out)?;
    out.extend_from_slice(bytes);
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_what_people_read() {
        for (name, expected) in [
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            ("core::fmt::write::h0123456789abcdef", "core::fmt::write"),
            ("alloc::vec::Vec<T,A>::push", "alloc::vec::Vec::push"),
            (
                "<a::B<C> as core::ops::Fn<(D,)>>::call",
                "<a::B as core::ops::Fn>::call",
            ),
            ("a::b::<fn() -> c::D>::e", "a::b::e"),
            ("dlmalloc", "dlmalloc"),
        ] {
            assert_eq!(short(name), expected);
        }
    }

    #[test]
    fn bundled_plugins_stay_components_and_shrink() {
        let mut all = crate::module::bundled().iter();
        let plugin = all.find(|it| it.name == "log-shipper").unwrap();
        let small = shorten(plugin.bytes);
        assert!(small.len() < plugin.bytes.len());
        let engine = crate::sandbox::Sandbox::compiler().unwrap();
        assert!(engine.precompile_component(&small).is_ok());
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        for bytes in [
            &b""[..],
            b"\0asm",
            b"\0asm\x0d\0\x01\0\0\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(shorten(bytes), bytes);
        }
    }
}
