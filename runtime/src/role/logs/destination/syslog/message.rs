//! Records as messages of RFC 5424, each in its frame.
//!
//! Nothing in a record is trusted: header fields hold printable ASCII within their limits, values of
//! structured data no control characters, and with `framing: newline` no message holds a line feed.
//! MSG is the record's bytes as they are. A message never exceeds `maxMessage`; a longer one is cut
//! at a character's end and says so.

use std::io::Write;

use crate::manifest::{Facility, Format, Framing, Part, Severity, SyslogDestination};
use crate::role::logs::batch::{LINE_CUT, LINE_STDERR, LINE_UNFINISHED, Source};
use crate::role::logs::encode::{BySource, Clock, RecordEncoder, member_of};
use crate::role::logs::output::Record;
use crate::role::logs::record_id::RecordId;

/// Members that hold a severity unless the manifest names one, the first of them wins.
const LEVELS: [&str; 4] = ["level", "severity", "severity_text", "lvl"];
/// The longest that header fields may be: RFC 5424, 6.
const MAX_HOSTNAME: usize = 255;
const MAX_APP_NAME: usize = 48;
const MAX_PROC_ID: usize = 128;
const MAX_MSG_ID: usize = 32;
const MAX_PARAM_NAME: usize = 32;
/// What names that are longer go without.
const POD: &str = "k8s.pod.";
/// The longest value that tells where a record comes from, in bytes before escaping.
const MAX_ORIGIN: usize = 256;
/// The most bytes that those take together, so that the smallest `maxMessage` has room for more.
const MAX_ORIGINS: usize = 1100;
/// The attribute that is a container's name.
const CONTAINER: &str = "k8s.container.name";
const BOM: &[u8] = "\u{feff}".as_bytes();
/// What a message ends with that was cut and has no structured data to say so.
const CUT: &[u8] = b"...";

/// How records of one destination are written.
#[derive(Debug)]
pub(super) struct Rules {
    facility: Facility,
    severity: Option<Severity>,
    severity_field: Option<String>,
    format: Format,
    framing: Framing,
    bom: bool,
    /// With its `@`; none if there is to be no structured data.
    sd_id: Option<String>,
    max_message: usize,
    node_name: String,
    hostname: Option<Template>,
    app_name: Option<Template>,
    proc_id: Option<Template>,
    msg_id: Option<Template>,
}

type Template = Vec<Piece>;

#[derive(Debug)]
enum Piece {
    Text(String),
    Attribute(String),
}

impl Rules {
    /// An error names the field and the problem.
    pub(super) fn new(
        manifest: &SyslogDestination,
        node_name: &str,
    ) -> Result<Self, (String, String)> {
        let template = |field: &str, text: &Option<String>| -> Result<_, (String, String)> {
            let Some(text) = text else { return Ok(None) };
            let parts = SyslogDestination::template(text)
                .map_err(|problem| (format!("syslog.{field}"), problem.to_owned()))?;
            let piece = |part: Part<'_>| match part {
                Part::Text(text) => Piece::Text(text.to_owned()),
                Part::Attribute(name) => Piece::Attribute(name.to_owned()),
            };
            Ok(Some(parts.into_iter().map(piece).collect()))
        };
        Ok(Self {
            facility: manifest.facility,
            severity: manifest.severity,
            severity_field: manifest.severity_field.clone(),
            format: manifest.format,
            framing: manifest.framing,
            bom: manifest.bom,
            sd_id: manifest
                .structured_data
                .then(|| manifest.structured_data_id.clone()),
            max_message: usize::try_from(manifest.max_message.0).unwrap_or(usize::MAX),
            node_name: node_name.to_owned(),
            hostname: template("hostname", &manifest.hostname)?,
            app_name: template("appName", &manifest.app_name)?,
            proc_id: template("procId", &manifest.proc_id)?,
            msg_id: template("msgId", &manifest.msg_id)?,
        })
    }

    fn severity(&self, record: &Record<'_>) -> Severity {
        let named = match &self.severity_field {
            Some(field) => member_of(record, &[field]),
            None => member_of(record, &LEVELS),
        };
        let unnamed = match record.flags & LINE_STDERR {
            0 => Severity::Info,
            _ => Severity::Err,
        };
        named
            .and_then(severity)
            .or(self.severity)
            .unwrap_or(unnamed)
    }

    /// The fields of the header between the time and the structured data, with the spaces around.
    fn header(&self, source: &Source) -> Vec<u8> {
        let given = |template: &Option<Template>| match template {
            Some(template) => render(template, source),
            None => String::new(),
        };
        let or = |text: String, other: &dyn Fn() -> String| match text.is_empty() {
            true => other(),
            false => text,
        };
        let hostname = or(given(&self.hostname), &|| self.node_name.clone());
        let app_name = or(given(&self.app_name), &|| app_name(source));
        let mut header = Vec::new();
        for (text, limit) in [
            (hostname, MAX_HOSTNAME),
            (app_name, MAX_APP_NAME),
            (given(&self.proc_id), MAX_PROC_ID),
            (given(&self.msg_id), MAX_MSG_ID),
        ] {
            header.push(b' ');
            push_name(&text, limit, |c| c.is_ascii_graphic(), &mut header);
        }
        header.push(b' ');
        header
    }

    /// The structured data as far as it is the same for all records of a source, still open; `-` if
    /// there is to be none.
    fn data(&self, source: &Source) -> Vec<u8> {
        let Some(id) = &self.sd_id else {
            return b"-".to_vec();
        };
        let mut data = format!("[{id}").into_bytes();
        let start = data.len();
        let mut origin = |name: &str, value: &str| {
            let before = data.len();
            data.push(b' ');
            // Labels' names are long.
            let name = match name.strip_prefix(POD) {
                Some(short) if name.len() > MAX_PARAM_NAME => short,
                _ => name,
            };
            let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '=' | ']' | '"');
            push_name(name, MAX_PARAM_NAME, plain, &mut data);
            data.extend_from_slice(b"=\"");
            push_value(value, &mut data);
            data.push(b'"');
            if data.len() - start > MAX_ORIGINS {
                data.truncate(before);
            }
        };
        for (name, value) in &source.attributes {
            origin(name, value);
        }
        if source.attributes.is_empty() {
            origin("file", &source.path.to_string_lossy());
        }
        data
    }
}

fn render(template: &[Piece], source: &Source) -> String {
    let pieces = template.iter().map(|piece| match piece {
        Piece::Text(text) => text.as_str(),
        Piece::Attribute(wanted) => attribute(source, wanted).unwrap_or_default(),
    });
    pieces.collect()
}

fn attribute<'a>(source: &'a Source, wanted: &str) -> Option<&'a str> {
    let mut attributes = source.attributes.iter();
    let (_, value) = attributes.find(|(name, _)| name == wanted)?;
    Some(value)
}

/// The container's name, or the file's without its extension.
fn app_name(source: &Source) -> String {
    match attribute(source, CONTAINER) {
        Some(name) => name.to_owned(),
        None => (source.path.file_stem())
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default(),
    }
}

/// Appends at most `limit` characters of `text`, others than those allowed as underscores; a dash
/// for nothing.
fn push_name(text: &str, limit: usize, allowed: impl Fn(char) -> bool, out: &mut Vec<u8>) {
    if text.is_empty() {
        return out.push(b'-');
    }
    let safe = |c: char| match allowed(c) {
        true => c as u8,
        false => b'_',
    };
    out.extend(text.chars().take(limit).map(safe));
}

/// Appends a PARAM-VALUE without its quotes. Of a long one the end, which says more of a path.
fn push_value(value: &str, out: &mut Vec<u8>) {
    let start = value.ceil_char_boundary(value.len().saturating_sub(MAX_ORIGIN));
    for c in value[start..].chars() {
        match c {
            '"' | '\\' | ']' => out.extend_from_slice(&[b'\\', c as u8]),
            c if c.is_control() => out.push(b'?'),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// What a member's value, in JSON, means as a severity.
fn severity(value: &[u8]) -> Option<Severity> {
    use Severity::*;
    let text = std::str::from_utf8(value).ok()?.trim_matches('"');
    if let Ok(number) = text.parse::<u32>() {
        return Some(match number {
            0 => Emerg,
            1 => Alert,
            2 => Crit,
            3 => Err,
            4 => Warning,
            5 => Notice,
            6 => Info,
            7 => Debug,
            // Pino's and Bunyan's.
            10 | 20 => Debug,
            30 => Info,
            40 => Warning,
            50 => Err,
            60 => Crit,
            _ => return None,
        });
    }
    const NAMES: [(&str, Severity); 24] = [
        ("info", Info),
        ("debug", Debug),
        ("warn", Warning),
        ("warning", Warning),
        ("error", Err),
        ("err", Err),
        ("notice", Notice),
        ("trace", Debug),
        ("fatal", Crit),
        ("critical", Crit),
        ("crit", Crit),
        ("alert", Alert),
        ("emerg", Emerg),
        ("emergency", Emerg),
        ("panic", Emerg),
        ("information", Info),
        ("informational", Info),
        ("verbose", Debug),
        ("severe", Err),
        ("i", Info),
        ("d", Debug),
        ("w", Warning),
        ("e", Err),
        ("f", Crit),
    ];
    let known = NAMES
        .iter()
        .find(|(name, _)| text.eq_ignore_ascii_case(name));
    known.map(|(_, severity)| *severity)
}

/// What all messages of one source share.
#[derive(Debug)]
struct Origin {
    header: Vec<u8>,
    data: Vec<u8>,
}

/// Writes messages one after the other. Holds what is worth remembering between them.
pub(super) struct Messages {
    records: RecordEncoder,
    clock: Clock,
    origins: BySource<Origin>,
    /// The message at hand up to MSG, and MSG where it is not the record's own bytes; kept for their
    /// memory.
    head: Vec<u8>,
    text: Vec<u8>,
}

impl Messages {
    pub(super) fn new() -> Self {
        Self {
            records: RecordEncoder::new(Format::Json),
            clock: Clock::default(),
            origins: BySource::default(),
            head: Vec::new(),
            text: Vec::new(),
        }
    }

    /// Appends `record`, in its frame.
    pub(super) fn push(
        &mut self,
        rules: &Rules,
        record: &Record<'_>,
        id: RecordId,
        out: &mut Vec<u8>,
    ) {
        let origin = self.origins.of(record.source, |source| Origin {
            header: rules.header(source),
            data: rules.data(source),
        });
        let head = &mut self.head;
        head.clear();
        let priority = rules.facility as u32 * 8 + rules.severity(record) as u32;
        // A vector takes everything.
        let _ = write!(head, "<{priority}>1 ");
        self.clock.push_micros(record.time, head);
        head.extend_from_slice(&origin.header);
        head.extend_from_slice(&origin.data);
        let mut cut = record.flags & LINE_CUT != 0;
        if rules.sd_id.is_some() {
            head.extend_from_slice(b" id=\"");
            id.push(head);
            head.push(b'"');
            if record.flags & LINE_STDERR != 0 {
                head.extend_from_slice(b" stream=\"stderr\"");
            }
            if record.flags & LINE_UNFINISHED != 0 {
                head.extend_from_slice(b" unfinished=\"true\"");
            }
        }
        let mut text = match rules.format {
            Format::Raw => record.body,
            Format::Json => {
                self.text.clear();
                self.records.object(record, &mut self.text);
                &self.text
            }
        };
        if rules.framing == Framing::Newline && memchr::memchr(b'\n', text).is_some() {
            // As rsyslog writes it.
            let escaped = text.split(|&byte| byte == b'\n').collect::<Vec<_>>();
            self.text = escaped.join(&b"#012"[..]);
            text = &self.text;
        }
        let is_utf8 = std::str::from_utf8(text).is_ok();
        if !is_utf8 {
            // Or it would claim to be.
            text = text.strip_prefix(BOM).unwrap_or(text);
        }
        let bom: &[u8] = match rules.bom && is_utf8 && !text.starts_with(BOM) {
            true => BOM,
            false => b"",
        };
        let (marked, plain): (&[u8], &[u8]) = match rules.sd_id {
            Some(_) => (b" cut=\"true\"]", b"]"),
            None => (b"", b""),
        };
        let end = if cut { marked } else { plain };
        let around = head.len() + " ".len() + bom.len();
        let mut mark: &[u8] = b"";
        if around + end.len() + text.len() > rules.max_message {
            cut = true;
            if rules.sd_id.is_none() {
                mark = CUT;
            }
            let room = rules
                .max_message
                .saturating_sub(around + marked.len() + mark.len());
            text = cut_to(text, room);
        }
        head.extend_from_slice(if cut { marked } else { plain });
        if !text.is_empty() {
            head.push(b' ');
            head.extend_from_slice(bom);
        }
        if rules.framing == Framing::OctetCounting {
            let _ = write!(out, "{} ", head.len() + text.len() + mark.len());
        }
        out.extend_from_slice(head);
        out.extend_from_slice(text);
        out.extend_from_slice(mark);
        if rules.framing == Framing::Newline {
            out.push(b'\n');
        }
    }
}

/// Appends a message that the plugin wrote itself, in its frame.
pub(super) fn push_payload(rules: &Rules, payload: &[u8], out: &mut Vec<u8>) {
    if payload.is_empty() {
        // No frame can hold that.
        return;
    }
    match rules.framing {
        Framing::OctetCounting => {
            let _ = write!(out, "{} ", payload.len());
            out.extend_from_slice(payload);
        }
        Framing::Newline => {
            out.extend_from_slice(payload);
            if !payload.ends_with(b"\n") {
                out.push(b'\n');
            }
        }
    }
}

/// The first `room` bytes of `text`, and not half a character of UTF-8.
fn cut_to(text: &[u8], room: usize) -> &[u8] {
    let Some(next) = text.get(room) else {
        return text;
    };
    let continues = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    if !continues(*next) {
        return &text[..room];
    }
    let lead = (room.saturating_sub(3)..room)
        .rev()
        .find(|&at| !continues(text[at]));
    match lead {
        Some(at) if text[at] >= 0b1100_0000 => &text[..at],
        _ => &text[..room],
    }
}
