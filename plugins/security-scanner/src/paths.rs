//! Lists of paths in the configuration.

/// Whether `path` is in the list, or below a folder of it.
pub(crate) fn holds(list: &[String], path: &[u8]) -> bool {
    list.iter().any(|mine| {
        let mine = mine.trim_end_matches('/').as_bytes();
        path.strip_prefix(mine)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    })
}

#[cfg(test)]
mod tests {
    use super::holds;

    #[test]
    fn a_folder_holds_what_is_below_it() {
        let list = ["/usr/bin/".to_owned(), "/etc/motd".to_owned()];
        for (path, held) in [
            ("/usr/bin", true),
            ("/usr/bin/a/b", true),
            ("/usr/bins", false),
            ("/etc/motd", true),
            ("/etc/motd2", false),
            ("/", false),
        ] {
            assert_eq!(holds(&list, path.as_bytes()), held, "{path}");
        }
        assert!(holds(&["/".to_owned()], b"/a"));
    }
}
