//! Numbers as Prometheus' own exporters write them. In a label they are compared as texts, so that it
//! matters how they look.

use std::io::Write as _;

/// Writes a number as Go's `strconv.FormatFloat(value, 'g', -1, 64)` does: the fewest digits that tell
/// it from all others, with an exponent of at least two digits below 0.0001 and from 1e+06 on.
pub(super) fn number(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_infinite() {
        let text: &[u8] = if value > 0.0 { b"+Inf" } else { b"-Inf" };
        return out.extend_from_slice(text);
    }
    let size = value.abs();
    // Writing to a vector does not fail.
    if size == 0.0 || (1e-4..1e6).contains(&size) {
        let _ = write!(out, "{value}");
        return;
    }
    let begin = out.len();
    let _ = write!(out, "{value:e}");
    // Rust writes 1e6 and 1e-7 where Go writes 1e+06 and 1e-07.
    let Some(at) = out
        .iter()
        .rposition(|&byte| byte == b'e')
        .filter(|&at| at >= begin)
    else {
        return;
    };
    let negative = out.get(at + 1) == Some(&b'-');
    if !negative {
        out.insert(at + 1, b'+');
    }
    if out.len() - (at + 2) < 2 {
        out.insert(at + 2, b'0');
    }
}

/// As [`number`], and told from a whole number by `.0`, as OpenMetrics wants it in labels.
pub(super) fn canonical(out: &mut Vec<u8>, value: f64) {
    let begin = out.len();
    number(out, value);
    let plain = |byte: &u8| byte.is_ascii_digit() || *byte == b'-';
    if out.iter().skip(begin).all(plain) {
        out.extend_from_slice(b".0");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(write: fn(&mut Vec<u8>, f64), value: f64) -> String {
        let mut out = b"e".to_vec();
        write(&mut out, value);
        String::from_utf8(out.split_off(1)).unwrap()
    }

    #[test]
    fn numbers_look_as_go_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456.0, "123456"),
            (999_999.5, "999999.5"),
            (1e6, "1e+06"),
            (2_000_000.0, "2e+06"),
            (1_234_567.0, "1.234567e+06"),
            (-2.5e10, "-2.5e+10"),
            (1e21, "1e+21"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(text(number, value), expected);
        }
        for (value, expected) in [
            (1.0, "1.0"),
            (-2.0, "-2.0"),
            (0.5, "0.5"),
            (2e6, "2e+06"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(text(canonical, value), expected);
        }
    }
}
