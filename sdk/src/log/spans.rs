//! What the crate `tracing` is told: events become records, with the fields of the spans they are in.

use std::fmt::Debug;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use super::fields::{self, Fields};
use super::{Level, enabled};

/// Where the message is among an event's fields.
const MESSAGE: &str = "message";
/// The names of the spans that an event is in, outermost first.
const SPAN: &str = "span";

struct Spans;

/// Unless the plugin has chosen another subscriber.
pub(super) fn install() {
    let _ = tracing::subscriber::set_global_default(Registry::default().with(Spans));
}

fn level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::TRACE => Level::Trace,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::INFO => Level::Info,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::ERROR => Level::Error,
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    /// Asked each time: natively, each thread has a level of its own.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    /// Spans of any level: an event in them has their fields.
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_span() || enabled(level(*metadata.level()))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut found = Fields::default();
        attributes.record(&mut found);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(found);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(found) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(found);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut found = Fields::default();
        let mut names = Vec::new();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|it| it.from_root())
        {
            names.push(span.name());
            if let Some(fields) = span.extensions().get::<Fields>() {
                found.extend(fields);
            }
        }
        if !names.is_empty() {
            found.set(SPAN, &names.join(":"));
        }
        let mut own = Own {
            fields: &mut found,
            message: String::new(),
        };
        event.record(&mut own);
        let message = own.message;
        let metadata = event.metadata();
        fields::write(
            level(*metadata.level()),
            metadata.target(),
            &message,
            &found,
        );
    }
}

/// Takes the message of an event apart from its fields.
struct Own<'a> {
    fields: &'a mut Fields,
    message: String,
}

macro_rules! values {
    ($($record:ident($value:ty)),+) => {
        impl Visit for Fields {
            $(fn $record(&mut self, field: &Field, value: $value) {
                self.set(field.name(), &value);
            })+

            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                self.set_text(field.name(), format_args!("{value:?}"));
            }
        }

        impl Visit for Own<'_> {
            $(fn $record(&mut self, field: &Field, value: $value) {
                self.fields.$record(field, value);
            })+

            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                match field.name() {
                    MESSAGE => self.message = format!("{value:?}"),
                    _ => self.fields.record_debug(field, value),
                }
            }
        }
    };
}
values!(
    record_u64(u64),
    record_i64(i64),
    record_f64(f64),
    record_bool(bool),
    record_str(&str)
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{set_log_level, take_log};

    #[test]
    fn events_come_with_the_fields_of_their_spans() {
        install();
        set_log_level(Level::Info);
        let outer =
            tracing::debug_span!("load", path = "/etc/zones", zones = tracing::field::Empty);
        let _outer = outer.enter();
        outer.record("zones", 3);
        tracing::info_span!("zone", path = "a").in_scope(|| {
            tracing::error!(target: "zones", why = ?Some(1), ok = false, "bad {}", "zone");
        });
        tracing::debug!("nobody asked");
        let records = take_log();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].level, Level::Error);
        assert_eq!(records[0].target, "zones");
        assert_eq!(records[0].message, "bad zone");
        let expected = r#""path":"a","zones":3,"span":"load:zone","why":"Some(1)","ok":false"#;
        assert_eq!(records[0].fields, expected);
    }
}
