use super::*;
use crate::manifest::{ByteSize, Format};

fn destination(path: &str) -> manifest::FileDestination {
    manifest::FileDestination {
        path: PathBuf::from(path),
        format: Format::Json,
        max_size: ByteSize(1),
        keep: 1,
    }
}

#[test]
fn its_own_files_are_known() {
    let destination = destination("/var/log/out.log");
    for path in [
        "/var/log/out.log",
        "/var/log/out.log.1",
        "/var/log/out.log.27",
    ] {
        assert!(writes_to(&destination, Path::new(path)), "{path}");
    }
    for path in [
        "/var/log/out.log.gz",
        "/var/log/out.log.",
        "/srv/out.log",
        "/var/log/out.log1",
    ] {
        assert!(!writes_to(&destination, Path::new(path)), "{path}");
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
