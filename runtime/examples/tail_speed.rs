//! How fast the tail alone is: CRI lines of about 200 bytes, page cache warm, batches dropped by
//! their receiver. Run by hand: `cargo run --release --example tail_speed [LINES] [FILES]`.
//!
//! Prints the CPU time of the whole process for each line, and beside it what only reading the same
//! bytes costs: the difference is the tail's own work.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bulkhead::manifest::{ContainerSource, LogSourceKind};
use bulkhead::role::logs::tail::{Config, Item, Stats, Tail};
use rustix::time::{ClockId, clock_gettime};

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let lines: usize = arguments.next().map_or(Ok(2_000_000), |n| n.parse())?;
    let files: usize = arguments.next().map_or(Ok(4), |n| n.parse())?;

    let root = std::env::temp_dir().join(format!("tail-speed-{}", std::process::id()));
    let first_seen = SystemTime::now();
    let mut paths = Vec::new();
    for file in 0..files {
        let folder = root.join(format!("pods/ns_pod-{file}_uid/app"));
        std::fs::create_dir_all(&folder)?;
        let path = folder.join("0.log");
        let mut out = BufWriter::new(File::create(&path)?);
        for line in 0..lines / files {
            let (second, nano) = (line / 1000 % 60, line % 1000 * 1_000_000 + line % 999_983);
            writeln!(
                out,
                "2024-05-06T07:08:{second:02}.{nano:09}Z stdout F {{\"level\":\"info\",\"n\":{line:09},\
                 \"message\":\"a request came in and was answered in good time\",\"path\":\"/v1/items\",\
                 \"status\":200,\"agent\":\"test/1.0\"}}"
            )?;
        }
        out.flush()?;
        paths.push(path);
    }
    let total = lines / files * files;

    let (mut bytes, before, began) = (0, cpu(), Instant::now());
    let mut buffer = vec![0; 256 << 10];
    for path in &paths {
        let (file, mut at) = (File::open(path)?, 0);
        loop {
            let read = file.read_at(&mut buffer, at)?;
            if read == 0 {
                break;
            }
            at += read as u64;
        }
        bytes += at;
    }
    let (read_cpu, read_wall) = (cpu() - before, began.elapsed());

    let source = LogSourceKind::Containers(ContainerSource {
        root: Some(root.clone()),
        ..ContainerSource::default()
    });
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
    let (before, began) = (cpu(), Instant::now());
    let config = Config::new(vec![source.into()], first_seen);
    let tail = Tail::start(
        config,
        Vec::new(),
        &mut Vec::new(),
        sender,
        Arc::new(Stats::default()),
    )?;
    let (mut got, mut batches) = (0, 0);
    while got < total {
        if let Some(Item::Batch(batch)) = receiver.blocking_recv() {
            got += batch.lines.len();
            batches += 1;
        }
    }
    let (tail_cpu, tail_wall) = (cpu() - before, began.elapsed());
    tail.stop();
    std::fs::remove_dir_all(&root)?;

    let per_line = |time: Duration| time.as_secs_f64() * 1e9 / total as f64;
    println!(
        "{total} lines, {:.0} MB, {batches} batches",
        bytes as f64 / 1e6
    );
    println!(
        "read only: {:.0} ns/line CPU, {:.0} MB/s",
        per_line(read_cpu),
        bytes as f64 / 1e6 / read_wall.as_secs_f64()
    );
    println!(
        "tail:      {:.0} ns/line CPU, {:.0} MB/s, {:.0} lines/s; own work {:.0} ns/line",
        per_line(tail_cpu),
        bytes as f64 / 1e6 / tail_wall.as_secs_f64(),
        total as f64 / tail_wall.as_secs_f64(),
        per_line(tail_cpu) - per_line(read_cpu)
    );
    Ok(())
}
