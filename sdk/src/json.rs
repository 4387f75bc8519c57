//! Writing JSON text into a byte buffer, without building documents.

use std::io::Write as _;

/// A value that can be written as JSON: for fields of lines and of log records.
///
/// ```
/// use bulkhead_sdk::ToJson;
/// let mut out = Vec::new();
/// "say \"hi\"\n".write_json(&mut out);
/// assert_eq!(out, br#""say \"hi\"\n""#);
/// ```
pub trait ToJson {
    /// Appends the value.
    ///
    /// ```
    /// use bulkhead_sdk::ToJson;
    ///
    /// enum Verdict {
    ///     Good,
    ///     Bad,
    /// }
    /// impl ToJson for Verdict {
    ///     fn write_json(&self, out: &mut Vec<u8>) {
    ///         match self {
    ///             Verdict::Good => "good".write_json(out),
    ///             Verdict::Bad => "bad".write_json(out),
    ///         }
    ///     }
    /// }
    ///
    /// let mut out = Vec::new();
    /// [Verdict::Good, Verdict::Bad].iter().for_each(|verdict| verdict.write_json(&mut out));
    /// assert_eq!(out, br#""good""bad""#);
    /// ```
    fn write_json(&self, out: &mut Vec<u8>);
}

impl ToJson for str {
    fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        escape(self.as_bytes(), out);
        out.push(b'"');
    }
}

impl ToJson for String {
    fn write_json(&self, out: &mut Vec<u8>) {
        self.as_str().write_json(out);
    }
}

/// Bytes as a string; what is not UTF-8 in them becomes U+FFFD, because JSON has no other way.
impl ToJson for [u8] {
    fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        if self.is_ascii() {
            escape(self, out);
        } else {
            for chunk in self.utf8_chunks() {
                escape(chunk.valid().as_bytes(), out);
                if !chunk.invalid().is_empty() {
                    out.extend_from_slice("\u{fffd}".as_bytes());
                }
            }
        }
        out.push(b'"');
    }
}

impl ToJson for bool {
    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

/// `null` if `None`.
impl<T: ToJson> ToJson for Option<T> {
    fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write_json(out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn write_json(&self, out: &mut Vec<u8>) {
        (**self).write_json(out);
    }
}

/// `null` if infinite or not a number, which JSON cannot say.
impl ToJson for f64 {
    fn write_json(&self, out: &mut Vec<u8>) {
        if self.is_finite() {
            // Straight into the buffer: a text of its own would be an allocation for each.
            let _ = write!(out, "{self}");
        } else {
            out.extend_from_slice(b"null");
        }
    }
}

impl ToJson for u64 {
    fn write_json(&self, out: &mut Vec<u8>) {
        write_digits(*self, out);
    }
}

impl ToJson for i64 {
    fn write_json(&self, out: &mut Vec<u8>) {
        if *self < 0 {
            out.push(b'-');
        }
        write_digits(self.unsigned_abs(), out);
    }
}

macro_rules! widen {
    ($($small:ty => $wide:ty),+) => {$(
        impl ToJson for $small {
            fn write_json(&self, out: &mut Vec<u8>) {
                (*self as $wide).write_json(out);
            }
        }
    )+};
}
widen!(u8 => u64, u16 => u64, u32 => u64, usize => u64, i8 => i64, i16 => i64, i32 => i64, isize => i64);

fn write_digits(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `text` as the inside of a JSON string. It must be UTF-8 for the result to be JSON.
pub(crate) fn escape(text: &[u8], out: &mut Vec<u8>) {
    let mut clean = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[clean..at]);
        clean = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&text[clean..]);
}

/// Appends `"name":value`, after a comma if `first` is false.
pub(crate) fn member(name: &str, value: &(impl ToJson + ?Sized), first: bool, out: &mut Vec<u8>) {
    if !first {
        out.push(b',');
    }
    name.write_json(out);
    out.push(b':');
    value.write_json(out);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: &(impl ToJson + ?Sized)) -> serde_json::Value {
        let mut out = Vec::new();
        value.write_json(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    proptest! {
        #[test]
        fn strings_come_back(text in any::<String>()) {
            prop_assert_eq!(written(&text), serde_json::json!(text));
            prop_assert_eq!(written(text.as_bytes()), serde_json::json!(text));
        }

        #[test]
        fn bytes_come_back_lossily(bytes in any::<Vec<u8>>()) {
            let text = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(written(bytes.as_slice()), serde_json::json!(text));
        }

        #[test]
        fn numbers_come_back(signed in any::<i64>(), unsigned in any::<u64>(), float in any::<f64>()) {
            prop_assert_eq!(written(&signed), serde_json::json!(signed));
            prop_assert_eq!(written(&unsigned), serde_json::json!(unsigned));
            // Read back by the standard library: serde_json is off by a last digit without its
            // `float_roundtrip` feature.
            let mut text = Vec::new();
            float.write_json(&mut text);
            let text = String::from_utf8(text).unwrap();
            if float.is_finite() {
                prop_assert_eq!(text.parse::<f64>().unwrap(), float);
                prop_assert!(serde_json::from_str::<f64>(&text).is_ok());
            } else {
                prop_assert_eq!(text, "null");
            }
        }
    }
}
