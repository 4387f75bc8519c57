//! Files with findings that are shown no more.

use super::support::{globs, in_private_mounts, inside, trees};
use crate::role::scanning::feed::Absent;

#[test]
fn what_is_gone_or_left_out_is_told_whatever_is_beside_it() {
    let script = "
        mkdir -p data/folder mounted hidden disk && ln -s data other && ln -s kept data/link
        echo 1 | tee file data/kept data/skipped data/over > hidden/file
        mount --bind data/kept data/over && mount --bind disk hidden
        mount -t tmpfs tmpfs mounted && echo 2 > mounted/file";
    in_private_mounts("there::inside_mounts", script, |_, _| ());
}

/// The part of the test above that runs inside.
#[test]
#[ignore = "run by another test, in a namespace of its own"]
fn inside_mounts() {
    let node = inside();
    let absent = |name: &str, tree: &[&str], one_file_system| {
        let plugin = node.subscribe(|it| {
            it.name = name.to_owned();
            it.roots = trees(tree);
            it.exclude = globs(&["/data/skipped"]);
            it.one_file_system = one_file_system;
        });
        // Each of them stands between two that are there.
        let paths = [
            "/data/folder",
            "/data/kept",
            "/data/link",
            "/data/none",
            "/data/over",
            "/data/skipped",
            "/file",
            "/hidden/file",
            "/mounted/file",
            "/mounted/none",
            "/none",
            "/other/kept",
            "/data/kept",
            "/file",
        ];
        let paths = paths.map(|path| path.as_bytes().to_vec());
        let found = node.feed.absent(name, paths.into());
        drop(plugin);
        found
    };
    let told = |left_out: &[&str], gone: &[&str]| {
        let paths = |it: &[&str]| it.iter().map(|it| it.as_bytes().to_vec()).collect();
        Absent {
            left_out: paths(left_out),
            gone: paths(gone),
        }
    };
    let gone = ["/data/folder", "/data/link", "/data/none"];
    let elsewhere = ["/hidden/file", "/mounted/file", "/mounted/none"];
    assert_eq!(
        absent("local/one", &["/"], true),
        told(
            &[&["/data/over", "/data/skipped"], &elsewhere[..]].concat(),
            &[&gone[..], &["/none", "/other/kept"]].concat(),
        )
    );
    assert_eq!(
        absent("local/all", &["/"], false),
        told(
            &["/data/skipped"],
            &[
                &gone[..],
                &["/hidden/file", "/mounted/none", "/none", "/other/kept"]
            ]
            .concat(),
        )
    );
    // A tree in another begins where something is mounted; a tree may be a file.
    assert_eq!(
        absent("local/two", &["/", "/mounted", "/data/over"], true),
        told(
            &["/data/skipped", "/hidden/file"],
            &[&gone[..], &["/mounted/none", "/none", "/other/kept"]].concat(),
        )
    );
}
