use super::*;

#[test]
fn its_own_files_are_known() {
    let written = Path::new("/var/log/out.log");
    for path in [
        "/var/log/out.log",
        "/var/log/out.log.1",
        "/var/log/out.log.27",
        "/var/log/out.log-20260102",
        "/var/log/out.log.2026-01-02.3",
    ] {
        assert!(is_or_was(written, Path::new(path)), "{path}");
    }
    for path in [
        "/var/log/out.log.gz",
        "/var/log/out.log.",
        "/srv/out.log",
        "/var/log/out.log1",
    ] {
        assert!(!is_or_was(written, Path::new(path)), "{path}");
    }
}

#[test]
fn reasons_say_what_to_do() {
    let full = io::Error::from(io::ErrorKind::StorageFull);
    let text = explain(Path::new("/srv/out"), &full);
    assert!(
        text.contains("/srv/out") && text.contains("free some space"),
        "{text}"
    );
}
