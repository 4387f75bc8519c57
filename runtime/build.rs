//! x
fn main() {
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    let _ = std::fs::write(
        format!("{out}/bundled.rs"),
        "static BUNDLED: &[Bundled] = &[];",
    );
}
