//! The peer: rsyslog over the same files.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::corpus::Corpus;
use crate::process::{self, PeakPss};
use crate::receiver::{Receiver, Speaks};
use crate::support::wait_for;
use crate::throughput::Run;

/// What it calls itself, if it is installed.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("rsyslogd").arg("-v").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?))
}

/// What rsyslog is to do with each line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Pass it on as it is.
    Nothing,
    /// What the log-shipper does in the row beside it: parse JSON, drop one level, redact, rename.
    /// `mmjsonparse` takes whole messages only, which container lines are not; `parse_json` is the
    /// same parser.
    Parse,
}

/// Where its lines go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    File,
    /// Syslog over TCP, to a peer that counts.
    Tcp,
}

/// A container line's time, stream and tag, which are of one length in the corpus.
const HEAD: usize = "2026-11-24T00:00:00.000000000Z stdout F ".len();

fn configuration(corpus: &Corpus, folder: &Path, work: Work, action: &str) -> String {
    // One action for both kinds of lines: two on one file have a buffer each and tear the lines.
    let (rules, template) = match work {
        Work::Nothing => (String::new(), "raw"),
        Work::Parse => (
            format!(
                "set $.out = substring($msg, {HEAD}, 65536);\n\
                 if $.out startswith \"{{\" then {{\n\
                   set $.parsed = parse_json($.out, \"\\$!j\");\n\
                   if $.parsed == 0 then {{\n\
                     if $!j!level == \"debug\" then stop\n\
                     if re_match($!j!user, \"[^@]+@example[.]com\") then set $!j!user = \"<address>\";\n\
                     set $!j!text = $!j!msg;\n\
                     unset $!j!msg;\n\
                     set $.out = exec_template(\"json\");\n\
                   }}\n\
                 }}\n"
            ),
            "out",
        ),
    };
    format!(
        "global(workDirectory={folder:?} maxMessageSize=\"64k\")\n\
         module(load=\"imfile\" mode=\"inotify\")\n\
         template(name=\"raw\" type=\"string\" string=\"%msg%\\n\")\n\
         template(name=\"json\" type=\"string\" string=\"%$!j%\")\n\
         template(name=\"out\" type=\"string\" string=\"%$.out%\\n\")\n\
         input(type=\"imfile\" file=\"{}/pods/*/cart/*.log\" tag=\"x\")\n\
         {rules}{action} template=\"{template}\")\n",
        corpus.root.display(),
    )
}

/// One run over the corpus; `check` looks at the output file, if there is one.
pub(crate) fn run(corpus: &Corpus, work: Work, to: To, check: impl FnOnce(&Path)) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let receiver = (to == To::Tcp).then(|| Receiver::start(Speaks::Lines));
    let action = match &receiver {
        None => format!("action(type=\"omfile\" file={:?}", path("out")),
        // The templates end in the line feed that frames a message.
        Some(receiver) => format!(
            "action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{}\" protocol=\"tcp\"",
            receiver.address.port()
        ),
    };
    fs::write(
        path("conf"),
        configuration(corpus, folder.path(), work, &action),
    )
    .unwrap();
    let expected = match work {
        Work::Nothing => corpus.written,
        // Rsyslog does not join parts, so it cannot parse a line in parts.
        Work::Parse => corpus.written - corpus.debug_whole,
    };
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
    let mut lines = Lines::default();
    wait_for("rsyslog to write every line", || {
        let count = match &receiver {
            Some(receiver) => receiver.lines(),
            None => lines.count(&path("out")),
        };
        if count < expected {
            std::thread::sleep(Duration::from_millis(100));
            return None;
        }
        Some(())
    });
    let run = Run {
        wall: begin.elapsed(),
        cpu: process::cpu_seconds(pid),
        peak_rss: process::peak_rss(pid),
        peak_pss: peak.stop(),
    };
    rsyslogd.kill().unwrap();
    rsyslogd.wait().unwrap();
    if receiver.is_none() {
        check(&path("out"));
    }
    run
}

/// Counts the lines of a file that grows.
#[derive(Default)]
struct Lines {
    file: Option<fs::File>,
    lines: u64,
}

impl Lines {
    fn count(&mut self, path: &Path) -> u64 {
        if self.file.is_none() {
            self.file = fs::File::open(path).ok();
        }
        let Some(file) = &mut self.file else { return 0 };
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut buffer).unwrap();
            if read == 0 {
                return self.lines;
            }
            self.lines += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64;
        }
    }
}
