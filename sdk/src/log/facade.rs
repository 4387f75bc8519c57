//! What the crate `log` is told.

use log::kv::{Error, Key, Value, VisitSource, VisitValue};
use log::{LevelFilter, Log, Metadata, Record};

use super::fields::{self, Fields};
use super::{Level, enabled};

struct Facade;

/// Unless the plugin has chosen another logger.
pub(super) fn install() {
    if log::set_logger(&Facade).is_ok() {
        log::set_max_level(LevelFilter::Trace);
    }
}

fn level(level: log::Level) -> Level {
    match level {
        log::Level::Trace => Level::Trace,
        log::Level::Debug => Level::Debug,
        log::Level::Info => Level::Info,
        log::Level::Warn => Level::Warn,
        log::Level::Error => Level::Error,
    }
}

impl Log for Facade {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        enabled(level(metadata.level()))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut found = Fields::default();
        // Visiting fails only if the visitor does.
        let _ = record.key_values().visit(&mut found);
        let message = record.args().to_string();
        fields::write(level(record.level()), record.target(), &message, &found);
    }

    fn flush(&self) {}
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let name = key.as_str().to_owned();
        value.visit(OneField(self, name))
    }
}

/// One value, as what it is.
struct OneField<'a>(&'a mut Fields, String);

impl<'v> VisitValue<'v> for OneField<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.0.set_text(std::mem::take(&mut self.1), value);
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        self.0.set(std::mem::take(&mut self.1), &None::<bool>);
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.0.set(std::mem::take(&mut self.1), &value);
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        self.0.set(std::mem::take(&mut self.1), &value);
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        self.0.set(std::mem::take(&mut self.1), &value);
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        self.0.set(std::mem::take(&mut self.1), &value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{set_log_level, take_log};

    #[test]
    fn records_come_with_their_fields() {
        install();
        set_log_level(Level::Info);
        log::warn!(target: "zones", zones = 3, name = "a \"b\"", share = 0.5, ok = true; "read {}", 3);
        log::debug!("nobody asked");
        let records = take_log();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].level, Level::Warn);
        assert_eq!(records[0].target, "zones");
        assert_eq!(records[0].message, "read 3");
        let expected = r#""zones":3,"name":"a \"b\"","share":0.5,"ok":true"#;
        assert_eq!(records[0].fields, expected);
    }
}
