//! `--watch`: the same again every second, as large as the terminal, with what only two looks show:
//! how many lines a second.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::super::screen::{Screen, clip};
use super::super::{Failed, OutputFormat, bytes};
use super::{Status, condition, pretty, text};

/// Rates are over this many looks, so that they can be read.
const LOOKS: usize = 6;
const EVERY: Duration = Duration::from_secs(1);

/// Shows until interrupted. A daemon that never answered is an error; one that stops answering may
/// come back.
pub(super) async fn run(status: &Status) -> Result<ExitCode, Failed> {
    let failed = |error: std::io::Error| Failed::new(error.to_string());
    let mut resized = signal(SignalKind::window_change()).map_err(failed)?;
    let mut ended = signal(SignalKind::terminate()).map_err(failed)?;
    let mut looked = look(status).await?;
    let mut history = History::default();
    let mut trouble: Option<(Failed, Instant)> = None;
    history.push(&looked.1);
    let screen = Screen::open(status.output);
    loop {
        let (node, list) = &looked;
        let page = match status.output {
            OutputFormat::Json => match &trouble {
                Some((error, _)) => pretty(&json!({ "error": error.to_string() })),
                None => pretty(status.selected(list)?),
            },
            OutputFormat::Text => {
                let body = match &status.name {
                    None => None,
                    Some(_) => Some(super::page(status, list)?),
                };
                let view = View {
                    node,
                    list,
                    history: &history,
                    trouble: trouble.as_ref().map(|(error, since)| {
                        let since: &Instant = since;
                        format!(
                            "error: {error}; this is {} s old",
                            since.elapsed().as_secs()
                        )
                    }),
                    body,
                };
                view.frame(screen.size(), screen.terminal)
            }
        };
        if !screen.show(&page) {
            return Ok(ExitCode::SUCCESS);
        }
        let next = tokio::time::sleep(EVERY);
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            _ = ended.recv() => return Ok(ExitCode::SUCCESS),
            _ = resized.recv() => continue,
            () = next => {}
        }
        match look(status).await {
            Ok(new) => {
                history.push(&new.1);
                looked = new;
                trouble = None;
            }
            Err(error) => {
                let since = trouble.take().map_or_else(Instant::now, |(_, since)| since);
                trouble = Some((error, since));
            }
        }
    }
}

async fn look(status: &Status) -> Result<(Value, Value), Failed> {
    Ok((
        status.daemon.get("/v1/node").await?,
        status.daemon.get("/v1/plugins").await?,
    ))
}

/// The lines that each plugin had read at the latest looks.
#[derive(Default)]
struct History(VecDeque<(Instant, BTreeMap<String, u64>)>);

impl History {
    fn push(&mut self, list: &Value) {
        let read = items(list)
            .filter_map(|plugin| {
                Some((identity(plugin), plugin["logs"]["lines"]["read"].as_u64()?))
            })
            .collect();
        self.0.push_back((Instant::now(), read));
        if self.0.len() > LOOKS {
            self.0.pop_front();
        }
    }

    /// Lines a second; none before two looks, or if the daemon began anew in between.
    fn rate(&self, identity: &str) -> Option<f64> {
        let (now, last) = self.0.back()?;
        let last = last.get(identity)?;
        let (then, first) = self
            .0
            .iter()
            .find_map(|(time, read)| Some((time, read.get(identity)?)))?;
        let seconds = now.duration_since(*then).as_secs_f64();
        (seconds > 0.0 && last >= first).then(|| (last - first) as f64 / seconds)
    }
}

/// What one frame shows.
struct View<'a> {
    node: &'a Value,
    list: &'a Value,
    history: &'a History,
    trouble: Option<String>,
    /// Instead of the table.
    body: Option<String>,
}

/// A column: its heading, and how early it goes where there is no room (0: never).
const COLUMNS: [(&str, u8); 9] = [
    ("PLUGIN", 0),
    ("PHASE", 0),
    ("UPDATE", 2),
    ("VERSION", 4),
    ("DIGEST", 5),
    ("RESTARTS", 3),
    ("MEMORY", 1),
    ("LINES/S", 0),
    ("LAG", 0),
];

impl View<'_> {
    /// At most `size` columns and rows.
    fn frame(&self, size: (usize, usize), colours: bool) -> String {
        let (width, height) = size;
        let mut lines: Vec<String> = wrap(&self.heading(), width, "").collect();
        if let Some(trouble) = &self.trouble {
            let style = if colours { "\x1b[31m" } else { "" };
            lines.extend(wrap(trouble, width, "").map(|line| paint(&line, style)));
        }
        lines.push(String::new());
        match &self.body {
            Some(body) => {
                // First, because a long backtrace may leave no room at the end.
                if let Some(rate) = self.only_rate() {
                    lines.push(clip(&format!("{:<13} {rate}", "Lines/s"), width));
                }
                for line in body.lines() {
                    lines.extend(wrap(line, width, "              "));
                }
            }
            None => lines.extend(self.table(width, height.saturating_sub(lines.len()), colours)),
        }
        if lines.len() > height {
            let more = lines.len() - height.saturating_sub(1);
            lines.truncate(height.saturating_sub(1));
            lines.push(clip(
                &format!("... {more} more lines; a higher window shows them"),
                width,
            ));
        }
        lines.join("\n") + "\n"
    }

    fn heading(&self) -> String {
        let mut phases: BTreeMap<&str, usize> = BTreeMap::new();
        let mut memory = 0;
        let mut rate = None;
        for plugin in items(self.list) {
            *phases.entry(text(&plugin["phase"])).or_default() += 1;
            memory += plugin["memoryBytes"].as_u64().unwrap_or(0);
            if let Some(one) = self.history.rate(&identity(plugin)) {
                rate = Some(rate.unwrap_or(0.0) + one);
            }
        }
        let mut parts = vec![format!("bulkhead {}", text(&self.node["version"]))];
        parts.push(match self.node["notReady"].as_str() {
            None => "ready".to_owned(),
            Some(reason) => format!("not ready: {}", clean(reason)),
        });
        parts.extend(
            phases
                .iter()
                .map(|(phase, count)| format!("{count} {phase}")),
        );
        parts.push(format!("{} lines/s", shown(rate)));
        parts.push(bytes(memory));
        for (field, title) in [("safeMode", "left out"), ("problems", "problem")] {
            for one in self.node[field].as_array().into_iter().flatten() {
                parts.push(format!("{title}: {}", clean(text(one))));
            }
        }
        parts.join("   ")
    }

    fn only_rate(&self) -> Option<String> {
        let body = self.body.as_ref()?;
        let identity = body.lines().next()?.split_whitespace().nth(1)?;
        Some(shown(self.history.rate(identity)))
    }

    fn table(&self, width: usize, height: usize, colours: bool) -> Vec<String> {
        let rows: Vec<_> = items(self.list).map(|plugin| self.row(plugin)).collect();
        let mut widths = COLUMNS.map(|(heading, _)| heading.len());
        for (cells, _) in &rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut kept = [true; COLUMNS.len()];
        for drop in (1..=5).rev() {
            if total(&widths, &kept) > width {
                for (keep, (_, order)) in kept.iter_mut().zip(COLUMNS) {
                    *keep &= order != drop;
                }
            }
        }
        let over = total(&widths, &kept).saturating_sub(width);
        widths[0] = widths[0].saturating_sub(over).max(8);
        let headings = COLUMNS.map(|(heading, _)| heading.to_owned());
        let mut blocks: Vec<(bool, Vec<String>)> = rows
            .iter()
            .map(|(cells, problems)| {
                let style = if colours { colour(&cells[1]) } else { "" };
                let mut lines = vec![laid_out(cells, &widths, &kept, style, width)];
                for problem in problems {
                    let mut wrapped: Vec<_> = wrap(problem, width.saturating_sub(4), "").collect();
                    // The remedy is at the end of a sentence; three lines hold nearly all.
                    wrapped.truncate(3);
                    lines.extend(wrapped.iter().enumerate().map(|(index, line)| {
                        format!("  {} {line}", if index == 0 { "!" } else { " " })
                    }));
                }
                (problems.is_empty(), lines)
            })
            .collect();
        if blocks.iter().map(|(_, lines)| lines.len()).sum::<usize>() >= height {
            // What is in trouble must be in sight.
            blocks.sort_by_key(|(well, _)| *well);
        }
        let mut lines = vec![laid_out(&headings, &widths, &kept, "", width)];
        lines.extend(blocks.into_iter().flat_map(|(_, lines)| lines));
        if rows.is_empty() {
            lines = vec!["no plugins; put a manifest into the daemon's --manifests folder".into()];
        }
        lines
    }

    fn row(&self, plugin: &Value) -> ([String; COLUMNS.len()], Vec<String>) {
        let identity = identity(plugin);
        let digest = text(&plugin["active"]["digest"]);
        let lag = &plugin["logs"]["lag"];
        let cells = [
            clean(&identity),
            clean(text(&plugin["phase"])),
            clean(
                condition(plugin, "UpToDate").map_or("-", |condition| text(&condition["reason"])),
            ),
            clean(text(&plugin["active"]["version"])),
            clean(digest.get(..12).unwrap_or(digest)),
            plugin["restarts"].to_string(),
            bytes(plugin["memoryBytes"].as_u64().unwrap_or(0)),
            shown(self.history.rate(&identity)),
            lag["bytes"].as_u64().map_or("-".into(), |count| {
                let seconds = lag["seconds"].as_f64().unwrap_or(0.0);
                format!("{}, {seconds:.1} s", bytes(count))
            }),
        ];
        (cells, problems(plugin))
    }
}

/// What is wrong with a plugin now, with the remedy.
fn problems(plugin: &Value) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for condition in plugin["conditions"].as_array().into_iter().flatten() {
        let (reason, message) = (text(&condition["reason"]), text(&condition["message"]));
        let new = !found.iter().any(|problem| problem.ends_with(message));
        if condition["status"] == "False" && reason != "Suspended" && new {
            found.push(format!("{reason}: {message}"));
        }
    }
    let logs = &plugin["logs"];
    found.extend(logs["problem"].as_str().map(str::to_owned));
    let pushed = plugin["metrics"]["remoteWrite"].as_array();
    let found_by = plugin["scanning"]["destinations"].as_array();
    let all = logs["destinations"].as_array().into_iter();
    let all = all.chain(pushed).chain(found_by);
    for destination in all.flatten() {
        found.extend(destination["problem"].as_str().map(str::to_owned));
        if destination["state"] != "Healthy" {
            found.push(format!(
                "destination {}: {}, {} attempts failed: {}",
                text(&destination["name"]),
                text(&destination["state"]),
                destination["attempts"],
                text(&destination["lastError"])
            ));
        }
        let queue = &destination["queue"];
        if let Some(problem) = queue["problem"].as_str() {
            found.push(problem.to_owned());
        } else if queue["full"] == true {
            let name = text(&destination["name"]);
            found.push(format!("destination {name}: its queue is full"));
        }
    }
    found.iter().map(|problem| clean(problem)).collect()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn identity(plugin: &Value) -> String {
    format!("{}/{}", text(&plugin["namespace"]), text(&plugin["name"]))
}

fn shown(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate > 0.0 && rate < 9.95 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

/// One line without control characters: a plugin's words must not steer the terminal.
fn clean(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Breaks between words where it can; later lines begin with `indent`.
fn wrap(line: &str, width: usize, indent: &str) -> impl Iterator<Item = String> + use<> {
    let width = width.max(20);
    let indent = indent.to_owned();
    let mut rest: Vec<char> = line.chars().collect();
    let mut first = true;
    std::iter::from_fn(move || {
        if rest.is_empty() && !first {
            return None;
        }
        let room = if first {
            width
        } else {
            width - indent.len().min(width / 2)
        };
        let cut = if rest.len() <= room {
            rest.len()
        } else {
            let space = rest[..room].iter().rposition(|c| *c == ' ');
            space.filter(|at| *at > room / 2).map_or(room, |at| at + 1)
        };
        let taken: String = rest.drain(..cut).collect();
        let prefix = if first { "" } else { &indent };
        first = false;
        Some(format!("{prefix}{}", taken.trim_end()))
    })
}

fn total(widths: &[usize; COLUMNS.len()], kept: &[bool; COLUMNS.len()]) -> usize {
    let kept = widths.iter().zip(kept).filter(|(_, kept)| **kept);
    kept.map(|(width, _)| width + 2).sum::<usize>() - 2
}

/// One row of the table, at most `limit` wide; the phase in `style`.
fn laid_out(
    cells: &[String; COLUMNS.len()],
    widths: &[usize; COLUMNS.len()],
    kept: &[bool; COLUMNS.len()],
    style: &str,
    limit: usize,
) -> String {
    let mut line = String::new();
    let mut room = limit;
    for index in (0..COLUMNS.len()).filter(|index| kept[*index]) {
        let width = widths[index].min(room);
        if width == 0 {
            break;
        }
        room = room.saturating_sub(width + 2);
        let cell = clip(&cells[index], width);
        let number = index >= 5;
        // Writing to a string does not fail.
        let _ = match (number, index) {
            (true, _) => write!(line, "{cell:>width$}  "),
            (false, 1) => write!(line, "{}  ", paint(&format!("{cell:width$}"), style)),
            (false, _) => write!(line, "{cell:width$}  "),
        };
    }
    line.trim_end().to_owned()
}

fn colour(phase: &str) -> &'static str {
    match phase {
        "Running" => "\x1b[32m",
        "Degraded" => "\x1b[33m",
        "Refused" => "\x1b[31m",
        _ => "\x1b[2m",
    }
}

fn paint(text: &str, style: &str) -> String {
    match style {
        "" => text.to_owned(),
        style => format!("{style}{text}\x1b[0m"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn list(read: u64) -> Value {
        json!({"items": [
            {"namespace": "local", "name": "a-rather-long-name-of-a-plugin", "phase": "Running",
             "restarts": 0, "memoryBytes": 1 << 20, "active": {"version": "1.0.0", "digest": "0123456789abcdef"},
             "logs": {"lines": {"read": read}, "lag": {"bytes": 2048, "seconds": 1.5}, "destinations": [
                 {"name": "http", "state": "Retrying", "attempts": 3, "lastError": "cannot connect \u{1b}[2J; check the address"}
             ]}},
            {"namespace": "local", "name": "b", "phase": "Refused", "restarts": 0, "conditions": [
                {"type": "Ready", "status": "False", "reason": "Refused", "message": "no"},
                {"type": "UpToDate", "status": "False", "reason": "Refused", "message": "no"}
            ]},
        ]})
    }

    fn frame(width: usize, height: usize) -> String {
        let mut history = History::default();
        history.push(&list(100));
        std::thread::sleep(Duration::from_millis(20));
        history.push(&list(200));
        let node = json!({"version": "0.1.0"});
        let view = View {
            node: &node,
            list: &list(200),
            history: &history,
            trouble: None,
            body: None,
        };
        view.frame((width, height), false)
    }

    #[test]
    fn a_frame_fits_the_terminal_and_says_what_is_wrong_once() {
        for width in [40, 60, 80, 120, 200] {
            let page = frame(width, 50);
            let widest = page.lines().map(|line| line.chars().count()).max();
            assert!(widest.unwrap() <= width, "{width}\n{page}");
            assert!(page.contains("Retrying, 3"), "{page}");
            assert!(!page.contains('\u{1b}'), "{page}");
            assert_eq!(page.matches("Refused: no").count(), 1, "{page}");
        }
        assert!(frame(200, 50).contains("0123456789ab"));
        assert!(!frame(60, 50).contains("0123456789ab"));
        let low = frame(80, 5);
        assert_eq!(low.lines().count(), 5, "{low}");
        assert!(low.contains("more lines"), "{low}");
    }

    #[test]
    fn rates_are_between_looks_and_unknown_after_a_restart() {
        let page = frame(200, 50);
        let row = page.lines().find(|line| line.contains("a-rather")).unwrap();
        let rate: f64 = row.split_whitespace().nth(8).unwrap().parse().unwrap();
        assert!((100.0..=5000.0).contains(&rate), "{row}");
        let mut history = History::default();
        history.push(&list(100));
        history.push(&list(5));
        assert_eq!(history.rate("local/a-rather-long-name-of-a-plugin"), None);
    }
}
