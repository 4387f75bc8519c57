//! Finds miners.
use bulkhead_sdk::scanning::{Batch, FileInterest, Outline, Rule, Severity};
use bulkhead_sdk::{Findings, NoConfig, Plugin, Result, Scanning};

const POOL: &[u8] = b"stratum+tcp://";

struct Watchman;

impl Plugin for Watchman {
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Watchman)
    }
}

impl Scanning for Watchman {
    fn outline(&mut self) -> Result<Outline> {
        let mut outline = Outline::new();
        outline.rule(Rule::new("miner", "A file is a miner").severity(Severity::Critical));
        outline.files(FileInterest::content(1 << 20));
        outline.rule_set(POOL);
        Ok(outline)
    }

    fn scan(&mut self, batch: &Batch, out: &mut Findings) -> Result<()> {
        for file in batch {
            for piece in file.pieces() {
                let mut windows = piece.bytes().windows(POOL.len());
                if let Some(at) = windows.position(|window| window == POOL) {
                    out.file(&file, "miner")
                        .message("names a pool of miners")
                        .evidence("offset", piece.position() + at as u64);
                }
            }
        }
        Ok(())
    }
}

bulkhead_sdk::export!(Watchman: Scanning);
