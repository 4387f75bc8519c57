//! Joining lines that belong together, stack traces above all, to one record.
//!
//! It stands between the lines of one file and what takes them, one record at a time for each stream.
//! Which lines belong together is decided by the record that is open and the line alone, and a record
//! is begun by its first line alone. Reading again from a record's first line therefore gives the same
//! record, however often reading was interrupted; only its end may lie further on, if the time-out had
//! handed it on before the rest was written.

mod gather;
mod machine;
mod presets;
mod rules;

#[cfg(test)]
mod tests;

pub(super) use gather::{Gather, Gathering};
pub(super) use rules::Rules;
