//! Destinations of findings.

use super::*;

/// A manifest with these destinations, in YAML's flow form.
fn with(destinations: &str) -> String {
    config_map(&format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: Plugin\nmodule: {{bundled: security-scanner}}\nscanning: {{destinations: [{destinations}]}}\n"
    ))
}

#[test]
fn destinations_are_those_of_logs() {
    let all = "{name: out, stdout: {}}, {name: far, http: {url: 'https://a', headers: {X: '${secret:a/b}'}}, queue: {maxSize: 1Mi}}";
    let manifest = good(&with(all));
    let scanning = manifest.spec.scanning.unwrap();
    let names = scanning.destinations.iter().map(|it| it.name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["out", "far"]);
    assert!(scanning.destinations[1].queue.is_some());
    // Where nothing is sent, nothing of it is written, so that no digest changes.
    let none = serde_json::to_value(Scanning::default()).unwrap();
    assert_eq!(none.get("destinations"), None);
}

#[test]
fn what_cannot_work_is_refused_with_a_remedy() {
    for (destinations, wanted) in [
        ("{name: a}", "does not say what it is"),
        ("{name: A, stdout: {}}", "[0].name: \"A\" is no name"),
        (
            "{name: a, stdout: {}}, {name: a, stdout: {}}",
            "[1].name: two destinations are called \"a\"",
        ),
        (
            "{name: a, file: {path: /x}}, {name: b, file: {path: /x}}",
            "[1].file.path: two destinations write to this file",
        ),
        (
            "{name: a, file: {path: /proc/x}}",
            "[0].file.path: is in /proc",
        ),
        (
            "{name: a, http: {url: 'ftp://a'}}",
            "[0].http.url: has the scheme \"ftp\"",
        ),
        (
            "{name: a, stdout: {}, queue: {maxSize: 1Ki}}",
            "[0].queue.maxSize: 1Ki is less than 1Mi",
        ),
        (
            "{name: a, stdout: {}, receives: routed}",
            "[0].receives: is `routed`, and plugins do not route findings",
        ),
    ] {
        let text = refused(&with(destinations)).join("\n");
        assert!(text.contains(wanted), "{destinations}: {text}");
        assert!(text.contains("scanning.destinations"), "{text}");
    }
    let many = (0..65).map(|i| format!("{{name: a-{i}, stdout: {{}}}}"));
    let many = many.collect::<Vec<_>>().join(", ");
    let text = refused(&with(&many)).join("\n");
    let wanted = "scanning.destinations: has 65 entries: keep at most 64";
    assert!(text.contains(wanted), "{text}");
}
