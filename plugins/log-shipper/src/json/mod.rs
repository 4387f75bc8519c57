//! JSON without documents: objects are looked at as spans of the bytes they came in, so that a value
//! nobody touches is copied as it was written, digit for digit.

mod scan;
mod text;

pub(crate) use scan::{Member, members, scan_line, string_end};
pub(crate) use text::unescape;
