//! Queues that move, and those whose destination is gone.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use crate::state::RETENTION;

const BIG: u64 = 64 << 20;

fn block() -> Settings {
    settings(BIG, WhenFull::Block)
}

fn home(state: &Path) -> Home {
    Home::new(state, Path::new("/"), "local", "app").unwrap()
}

/// What is below a folder, without what a queue is made of.
fn folders(base: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(base).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            all.push(entry.path());
            all.extend(folders(&entry.path()));
        }
    }
    all
}

#[tokio::test]
async fn a_queue_moves_when_it_is_empty_and_not_before() {
    let (state, first, second) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let [first, second] = [first.path(), second.path()];
    let mut bench = open_below(state.path(), Some(first), block()).unwrap();
    bench.append(0, 0, 10).await;
    bench.kept().await;
    bench.kill().await;
    // It is there, and its lines come out, whatever the manifest says.
    for path in [None, Some(second)] {
        let bench = open_below(state.path(), path, block()).unwrap();
        assert_eq!(bench.recovered.lines, 10);
        assert_eq!(bench.queue.shared.path, first.join("local/app/out"));
        bench.kill().await;
    }
    let mut bench = open_below(state.path(), Some(second), block()).unwrap();
    assert_eq!(bench.deliver_all(0).await.len(), 10);
    bench.queue.close().await.unwrap();
    drop(bench);
    let mut bench = open_below(state.path(), Some(second), block()).unwrap();
    assert_eq!(bench.queue.shared.path, second.join("local/app/out"));
    assert!(!first.join("local/app/out").exists());
    bench.append(0, 10, 1).await;
    bench.kept().await;
    assert_eq!(bench.deliver_all(0).await, [10]);
    bench.queue.close().await.unwrap();
    drop(bench);
    let bench = open_below(state.path(), None, block()).unwrap();
    assert_eq!(bench.queue.shared.path, folder(state.path()));
    assert!(!second.join("local/app/out").exists());
}

#[tokio::test]
async fn a_disk_that_is_gone_is_said_and_not_replaced() {
    let (state, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = disk.path().join("big");
    fs::create_dir(&path).unwrap();
    open_below(state.path(), Some(&path), block())
        .unwrap()
        .kill()
        .await;
    fs::remove_dir_all(&path).unwrap();
    for wanted in [Some(&*path), None] {
        let error = open_below(state.path(), wanted, block()).err().unwrap();
        assert!(matches!(error, Error::Away { .. }), "{error}");
        assert!(
            error.to_string().contains(&*path.to_string_lossy()),
            "{error}"
        );
    }
    assert!(!path.exists());
    fs::remove_dir_all(folder(state.path())).unwrap();
    open_below(state.path(), None, block()).unwrap();
}

#[tokio::test]
async fn what_a_removed_destination_left_is_kept_for_a_day_and_counted() {
    let (state, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let now = UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    let later = |hours: u64| now + Duration::from_secs(3600 * hours);
    for path in [None, Some(disk.path())] {
        let mut bench = open_below(state.path(), path, block()).unwrap();
        bench.append(0, 0, 10).await;
        bench.kept().await;
        bench.kill().await;
        let look = |present: &[&str], now: SystemTime| -> Vec<Abandoned> {
            let all = home(state.path())
                .abandoned(present, 2, now, RETENTION)
                .into_iter();
            all.map(Result::unwrap).collect()
        };
        assert_eq!(look(&["out"], now), []);
        let at = path
            .unwrap_or(&state.path().join("queue"))
            .join("local/app/out");
        let wanted = Abandoned {
            destination: "out".to_owned(),
            path: at.clone(),
            lines: 10,
            until: Some(later(24)),
        };
        for hours in [0, 1, 23] {
            assert_eq!(
                look(&["other"], later(hours)),
                [&wanted].map(|wanted| Abandoned {
                    destination: wanted.destination.clone(),
                    path: wanted.path.clone(),
                    ..*wanted
                })
            );
        }
        // It comes back, with its lines, and the day begins anew.
        let bench = open_below(state.path(), path, block()).unwrap();
        assert_eq!(bench.recovered.lines, 10);
        bench.kill().await;
        assert_eq!(look(&[], later(30))[0].until, Some(later(54)));
        let removed = look(&[], later(55));
        assert_eq!((removed[0].lines, removed[0].until), (10, None));
        assert!(!at.exists());
        assert_eq!(look(&[], later(55)), []);
        assert_eq!(
            folders(&state.path().join("queue/local/app")),
            Vec::<PathBuf>::new()
        );
    }
}

#[tokio::test]
async fn an_empty_queue_without_a_destination_is_removed_at_once() {
    let state = tempfile::tempdir().unwrap();
    open(state.path(), block()).kill().await;
    let gone = home(state.path()).abandoned(&[], 2, SystemTime::now(), RETENTION);
    let [
        Ok(Abandoned {
            lines: 0,
            until: None,
            ..
        }),
    ] = &gone[..]
    else {
        panic!("{gone:?}")
    };
    assert!(!folder(state.path()).exists());
}

#[test]
fn a_plugin_with_no_name_for_a_folder_has_no_queue() {
    for name in ["", "..", "a/b", ".hidden"] {
        assert!(Home::new(Path::new("/"), Path::new("/"), "local", name).is_none());
    }
}
