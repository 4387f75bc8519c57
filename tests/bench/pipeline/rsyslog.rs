//! The peer: rsyslog over the same files, with the least work it can do.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::corpus::Corpus;
use crate::process::{self, PeakPss};
use crate::support::wait_for;
use crate::throughput::Run;

/// What it calls itself, if it is installed.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("rsyslogd").arg("-v").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?))
}

/// One run: reads every line and writes it as it is.
pub(crate) fn run(corpus: &Corpus) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(
        path("conf"),
        format!(
            "global(workDirectory={folder:?} maxMessageSize=\"64k\")\n\
             module(load=\"imfile\" mode=\"inotify\")\n\
             template(name=\"raw\" type=\"string\" string=\"%msg%\\n\")\n\
             input(type=\"imfile\" file=\"{}/pods/*/cart/*.log\" tag=\"x\")\n\
             action(type=\"omfile\" file={out:?} template=\"raw\")\n",
            corpus.root.display(),
            folder = folder.path(),
            out = path("out"),
        ),
    )
    .unwrap();
    let begin = Instant::now();
    let mut rsyslogd = Command::new("rsyslogd")
        .arg("-n")
        .arg("-f")
        .arg(path("conf"))
        .arg("-i")
        .arg(path("pid"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = rsyslogd.id();
    let peak = PeakPss::watch(pid);
    wait_for("rsyslog to write every byte", || {
        let written = fs::metadata(path("out")).map_or(0, |out| out.len());
        (written >= corpus.bytes).then_some(())
    });
    let run = Run {
        wall: begin.elapsed(),
        cpu: process::cpu_seconds(pid),
        peak_rss: process::peak_rss(pid),
        peak_pss: peak.stop(),
    };
    rsyslogd.kill().unwrap();
    rsyslogd.wait().unwrap();
    run
}
