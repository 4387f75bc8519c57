//! The engine as a component, for `speed.rs` to run in the sandbox: rules come in once, contents in
//! packed batches. Empty natively.

#[cfg(target_family = "wasm")]
mod component {
    use std::sync::{Mutex, OnceLock};

    use security_scanner::yara::{Limits, Rules, Scanner};

    mod bindings {
        #![allow(
            missing_docs,
            unsafe_code,
            clippy::undocumented_unsafe_blocks,
            reason = "generated"
        )]
        wit_bindgen::generate!({
            inline: "package bulkhead:bench;
            world scanner {
                export load: func(rules: string) -> result<u32, string>;
                export scan: func(contents: list<u8>, ends: list<u32>) -> list<tuple<u32, u32, u32>>;
            }"
        });
        use super::Component;
        export!(Component);
    }

    struct Component;

    static SCANNER: OnceLock<Mutex<Scanner<'static>>> = OnceLock::new();

    impl bindings::Guest for Component {
        fn load(text: String) -> Result<u32, String> {
            let rules =
                Rules::compile([("default", text.as_str())]).map_err(|(_, why)| why.to_string())?;
            let rules: &'static Rules = Box::leak(Box::new(rules));
            let scanner = Mutex::new(Scanner::new(rules, Limits::default()));
            SCANNER
                .set(scanner)
                .map_err(|_| "there are rules already")?;
            Ok(rules.rules().len() as u32)
        }

        /// For each match the place of the file and of the rule, and how many places were found.
        fn scan(contents: Vec<u8>, ends: Vec<u32>) -> Vec<(u32, u32, u32)> {
            let Some(mut scanner) = SCANNER.get().and_then(|scanner| scanner.lock().ok()) else {
                return Vec::new();
            };
            let mut hits = Vec::new();
            let mut start = 0;
            for (file, end) in ends.into_iter().enumerate() {
                let data = contents.get(start..end as usize).unwrap_or_default();
                start = end as usize;
                for hit in scanner.scan(data).hits {
                    let places = hit
                        .strings
                        .iter()
                        .map(|(_, places)| places.len())
                        .sum::<usize>();
                    hits.push((file as u32, hit.number as u32, places as u32));
                }
            }
            hits
        }
    }
}
