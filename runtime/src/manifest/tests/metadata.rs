//! `logs.sources[].containers.metadata`.

use super::*;

fn with(metadata: &str) -> String {
    GOOD.replace(
        "containers: {}",
        &format!("containers: {{metadata: {metadata}}}"),
    )
}

fn of(metadata: &str) -> PodMetadata {
    let logs = good(&config_map(&with(metadata))).spec.logs.unwrap();
    let LogSourceKind::Containers(source) = &logs.sources[0].kind else {
        panic!("not containers");
    };
    let metadata = source.metadata.clone().unwrap();
    let json = serde_json::to_value(&metadata).unwrap();
    let again: PodMetadata = serde_json::from_value(json).unwrap();
    assert_eq!(again, metadata);
    metadata
}

#[test]
fn labels_are_all_none_or_named() {
    assert_eq!(of("{}"), PodMetadata::default());
    assert_eq!(of("{labels: true}").labels, PodLabels::All);
    let none = of("{labels: false}").labels;
    assert_eq!(none, PodLabels::Named(Vec::new()));
    assert!(!none.contain("app"));
    let named = of(r#"{labels: [app, "app.kubernetes.io/*", "*/c?t"]}"#).labels;
    for name in ["app", "app.kubernetes.io/name", "x/cat", "x/y/cut"] {
        assert!(named.contain(name), "{name}");
    }
    for name in ["apps", "app.kubernetes.io", "cat"] {
        assert!(!named.contain(name), "{name}");
    }
    let absent = good(&config_map(GOOD)).spec.logs.unwrap();
    let LogSourceKind::Containers(source) = &absent.sources[0].kind else {
        panic!("not containers");
    };
    assert_eq!(source.metadata, None);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (metadata, wanted) in [
        (
            "{labels: app}",
            "containers.metadata.labels: is neither `true` nor `false` nor a list of names",
        ),
        (
            "{annotations: true}",
            "logs.sources[0].containers.metadata.annotations",
        ),
        (
            r#"{annotations: ["a[b"]}"#,
            "containers.metadata.annotations[0]: is no valid glob",
        ),
        (
            r#"{annotations: [""]}"#,
            "containers.metadata.annotations[0]: is empty: write a name such as `app`",
        ),
        (
            "{wait: 61s}",
            "logs.sources[0].containers.metadata.wait: 1m 1s is longer than 1m: write how long",
        ),
        (
            "{label: true}",
            "metadata.label: unknown field: did you mean `labels`?",
        ),
    ] {
        let errors = refused(&config_map(&with(metadata))).join("\n");
        assert!(errors.contains(wanted), "wanted {wanted}\ngot    {errors}");
    }
    let files = GOOD.replace("include:", "metadata: {}\n        include:");
    let errors = refused(&config_map(&files)).join("\n");
    assert!(errors.contains("metadata: unknown field"), "{errors}");
    let labels =
        "loki:\n        url: https://l.example.org\n        labelAttributes: [\"k8s.pod.label.*\"]";
    let loki = GOOD.replace(
        "http:\n        url: https://logs.example.org/ingest",
        labels,
    );
    let errors = refused(&config_map(&loki)).join("\n");
    assert!(
        errors.contains("as many streams as there are values"),
        "{errors}"
    );
}
