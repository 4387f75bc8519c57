//! The order in which things happen to a line.

use bulkhead_sdk::{
    Batch, Context, Error, Line, Logs, Output, Plugin, Result, Snapshot, ToJson, warn,
};

use crate::condition::Condition;
use crate::config::{self, Config, Scalar, TimeFormat, Unparsed};
use crate::edit::Editor;
use crate::parse::Parser;
use crate::record::{Field, MESSAGE, Record, Scratch, Shape};
use crate::redact::{Redactor, Set};
use crate::sample::Sampler;
use crate::time;

/// The plugin.
#[derive(Debug)]
pub struct Shipper {
    parser: Parser,
    rules: Rules,
    sampler: Sampler,
    /// Lines that were not in their format, since this instance was made.
    unparsed: u64,
}

/// What a line meets once it has fields.
#[derive(Debug)]
struct Rules {
    on_unparsed: Unparsed,
    time: Option<(Field, TimeFormat)>,
    /// Each with the answer that lets a line pass.
    filters: Vec<(Condition, bool)>,
    routes: Vec<(Condition, Vec<String>)>,
    editor: Editor,
    redactor: Redactor,
    /// Redactions of whole lines.
    everywhere: Set,
    /// Redactions of lines that are text.
    of_text: Set,
    /// Members to add; and those with the mark of a line that was not parsed.
    added: Vec<u8>,
    added_unparsed: Vec<u8>,
    scratch: Scratch,
    edited: Vec<u8>,
    redacted: Vec<u8>,
}

impl Plugin for Shipper {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let parser = Parser::new(&config.parse).at("parse")?;
        Ok(Self {
            rules: Rules::new(&config, parser.name())?,
            sampler: Sampler::new(&config.sample).at("sample")?,
            parser,
            unparsed: 0,
        })
    }

    fn snapshot(&mut self) -> Option<Snapshot> {
        self.sampler.snapshot()
    }

    fn restore(&mut self, snapshot: Snapshot) -> Result<()> {
        self.sampler.restore(&snapshot)
    }
}

impl Logs for Shipper {
    fn start(&mut self, destinations: &[String]) -> Result<()> {
        for (rule, (_, to)) in self.rules.routes.iter().enumerate() {
            for (index, name) in to.iter().enumerate() {
                if !destinations.contains(name) {
                    let error = Error::new(format!(
                        "there is no destination `{name}`; the manifest has: {}",
                        destinations.join(", ")
                    ));
                    return Err(error.at(format!("config.routes[{rule}].to[{index}]")));
                }
            }
        }
        Ok(())
    }

    fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        let before = self.unparsed;
        for line in batch {
            let (record, parsed) = self.parser.parse(line);
            if !parsed {
                self.unparsed += 1;
                if self.rules.on_unparsed == Unparsed::Drop {
                    continue;
                }
            }
            if self.rules.passes(&record) && self.sampler.passes(&record, &mut self.rules.scratch) {
                self.rules.ship(line, &record, parsed, out);
            }
        }
        self.report(before);
        Ok(())
    }
}

impl Shipper {
    /// Says how many lines were not in their format whenever that number passes a power of two.
    fn report(&self, before: u64) {
        let (now, format) = (self.unparsed, self.parser.name());
        if now > 0 && before.checked_ilog2() != now.checked_ilog2() {
            warn!("{now} lines so far could not be read as {format}"; "lines" = now, "format" = format);
        }
    }
}

impl Rules {
    fn new(config: &Config, format: &str) -> Result<Self> {
        let filter = |(index, filter): (usize, &config::Filter)| {
            let (condition, name, passes) = match filter {
                config::Filter::Keep(condition) => (condition, "keep", true),
                config::Filter::Drop(condition) => (condition, "drop", false),
            };
            let condition = Condition::new(condition).at(format!("filters[{index}].{name}"))?;
            Ok((condition, passes))
        };
        let route = |(index, route): (usize, &config::Route)| {
            if route.to.is_empty() {
                let error = Error::new("names no destination; to drop lines, write a filter");
                return Err(error.at(format!("routes[{index}].to")));
            }
            let condition = Condition::new(&route.when).at(format!("routes[{index}].when"))?;
            Ok((condition, route.to.clone()))
        };
        let redactor = Redactor::new(&config.redact).at("redact")?;
        let redactions = |wanted: &dyn Fn(&config::Redact) -> bool| {
            let numbered = config.redact.iter().enumerate();
            let chosen = numbered.filter(|(_, redact)| wanted(redact));
            chosen.fold(0, |set, (index, _)| set | 1 << index)
        };
        let message = |field: &String| field.as_bytes() == MESSAGE;
        let mut added = Vec::new();
        for (name, value) in &config.add {
            write_member(name, value, &mut added);
        }
        let mut added_unparsed = added.clone();
        if config.unparsed == Unparsed::Flag {
            write_member(
                "parseError",
                &Scalar::Text(format.to_owned()),
                &mut added_unparsed,
            );
        }
        Ok(Self {
            on_unparsed: config.unparsed,
            time: config
                .time
                .as_ref()
                .map(|time| (Field::new(&time.field), time.format)),
            filters: config
                .filters
                .iter()
                .enumerate()
                .map(filter)
                .collect::<Result<_>>()?,
            routes: config
                .routes
                .iter()
                .enumerate()
                .map(route)
                .collect::<Result<_>>()?,
            editor: Editor::new(config)?,
            everywhere: redactions(&|redact| redact.fields.is_empty()),
            of_text: redactions(&|redact| {
                redact.fields.is_empty() || redact.fields.iter().any(message)
            }),
            redactor,
            added,
            added_unparsed,
            scratch: Scratch::default(),
            edited: Vec::new(),
            redacted: Vec::new(),
        })
    }

    #[inline]
    fn passes(&mut self, record: &Record<'_>) -> bool {
        let Self {
            filters, scratch, ..
        } = self;
        filters
            .iter()
            .all(|(condition, passes)| condition.holds(record, scratch) == *passes)
    }

    /// Hands a line on, with its changes.
    fn ship(&mut self, line: Line<'_>, record: &Record<'_>, parsed: bool, out: &mut Output) {
        let routes = &self.routes;
        let scratch = &mut self.scratch;
        let route = routes.iter().find(|(when, _)| when.holds(record, scratch));
        let time = self
            .time
            .as_ref()
            .and_then(|(field, format)| time::parse(record.text(field, scratch)?, *format));
        let added = if parsed {
            &self.added
        } else {
            &self.added_unparsed
        };
        let mut edit = if record.shape == Shape::Text {
            match self.redactor.text(record.bytes, self.of_text) {
                Some(redacted) => out.rewrite(line, redacted),
                None if route.is_none() && time.is_none() && added.is_empty() => {
                    return out.keep(line);
                }
                None => out.edit(line),
            }
        } else {
            let mut body = record.bytes;
            let mut changed = record.shape == Shape::Made;
            if self.editor.concerns(record, &self.redactor) {
                self.editor
                    .write(record, &mut self.redactor, &mut self.edited);
                body = &self.edited;
                changed = true;
            }
            if self.redactor.may_match(body, self.everywhere) {
                self.redacted.clear();
                let (text, out) = (&mut self.scratch.text, &mut self.redacted);
                self.redactor.document(body, self.everywhere, text, out);
                body = &self.redacted;
                changed = true;
            }
            let mut edit = match changed {
                true => out.rewrite(line, body),
                false => out.edit(line),
            };
            edit.json();
            edit
        };
        edit.members(added);
        if let Some((_, to)) = route {
            edit.route(to);
        }
        if let Some(time) = time {
            edit.time(time);
        }
    }
}

fn write_member(name: &str, value: &Scalar, out: &mut Vec<u8>) {
    if !out.is_empty() {
        out.push(b',');
    }
    name.write_json(out);
    out.push(b':');
    match value {
        Scalar::Bool(value) => value.write_json(out),
        Scalar::Integer(value) => value.write_json(out),
        Scalar::Number(value) => value.write_json(out),
        Scalar::Text(value) => value.write_json(out),
    }
}
