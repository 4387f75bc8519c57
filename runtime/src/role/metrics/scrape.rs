//! One answer to a scrape: all plugins collect at once, each for as long as it may, and what they found
//! is put together by family.

use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;

use super::driver::MetricsStatus;
use super::exposition::{Exposition, Format};

/// What a scraper asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// In which format.
    pub format: Format,
    /// Whether it takes gzip.
    pub gzip: bool,
    /// After which it does not wait any more, if it says.
    pub time: Option<Duration>,
}

/// A plugin that can be scraped.
pub struct Target {
    /// Of its manifest.
    pub namespace: String,
    /// Of its manifest.
    pub name: String,
    /// Its role.
    pub metrics: MetricsStatus,
    /// Whether it has an instance.
    pub works: bool,
}

/// An answer.
#[derive(Debug)]
pub struct Scraped {
    /// The body, in the format that was asked for.
    pub body: Vec<u8>,
    /// Whether it is compressed.
    pub gzip: bool,
    /// How many plugins it is of.
    pub plugins: usize,
}

/// What is kept of the scraper's time, to write the answer and send it.
const MARGIN: Duration = Duration::from_millis(500);
/// So many series are written faster than another thread is woken for them.
const WRITTEN_HERE: usize = 1000;
/// How long a scraper waits that does not say.
const PATIENCE: Duration = Duration::from_secs(120);

/// Collects from these plugins, which are in the order of their names, and answers in time. Plugins without the role
/// are passed over. None if the daemon ends.
pub async fn scrape(plugins: Vec<Target>, asked: Asked) -> Option<Scraped> {
    let time = asked.time.unwrap_or(PATIENCE).min(PATIENCE);
    // Of very short ones at least half is left.
    let until = Instant::now() + time.saturating_sub(MARGIN).max(time / 2);
    let collecting = plugins.iter().map(|it| it.metrics.collect(until, it.works));
    let collected = join_all(collecting).await;
    let count = collected.iter().flatten().count();
    let found = collected.iter().flatten();
    let series: usize = found.map(|(_, collection)| collection.series()).sum();
    let write = move || {
        let mut exposition = Exposition::default();
        for (plugin, collected) in plugins.iter().zip(&collected) {
            if let Some((labels, collection)) = collected {
                exposition.add(&plugin.namespace, &plugin.name, labels, collection);
            }
        }
        let body = exposition.write(asked.format);
        let compressed = asked.gzip.then(|| compress(&body)).flatten();
        Scraped {
            gzip: compressed.is_some(),
            body: compressed.unwrap_or(body),
            plugins: count,
        }
    };
    if series <= WRITTEN_HERE && !asked.gzip {
        return Some(write());
    }
    // There may be a million series. Fails only when the daemon ends.
    tokio::task::spawn_blocking(write).await.ok()
}

/// Fast rather than small: it is done for every scrape.
fn compress(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}
