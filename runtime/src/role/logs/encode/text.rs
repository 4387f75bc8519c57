//! JSON strings from arbitrary bytes.

/// Bytes looked at together: enough for the compiler to use vector instructions.
const STRIDE: usize = 32;

/// For each byte 0 if it stands for itself inside a JSON string, `u` for `\u00XX`, otherwise what
/// follows the backslash.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[0x08] = b'b';
    table[b'\t' as usize] = b't';
    table[b'\n' as usize] = b'n';
    table[0x0c] = b'f';
    table[b'\r' as usize] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Appends `bytes` as a JSON string with its quotes. What is not UTF-8 becomes U+FFFD.
pub fn push_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    if std::str::from_utf8(bytes).is_ok() {
        push_escaped(bytes, out);
    } else {
        for chunk in bytes.utf8_chunks() {
            push_escaped(chunk.valid().as_bytes(), out);
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
    out.push(b'"');
}

/// Appends UTF-8 with what JSON forbids in a string escaped.
fn push_escaped(text: &[u8], out: &mut Vec<u8>) {
    // `plain` is where the run of bytes that stand for themselves began; it is copied at once.
    let mut plain = 0;
    let mut at = 0;
    while at < text.len() {
        if let Some(stride) = text.get(at..at + STRIDE) {
            let special = stride.iter().fold(false, |found, &byte| {
                found | (byte < 0x20) | (byte == b'"') | (byte == b'\\')
            });
            if !special {
                at += STRIDE;
                continue;
            }
        }
        let end = (at + STRIDE).min(text.len());
        while at < end {
            let escape = ESCAPES[text[at] as usize];
            if escape != 0 {
                out.extend_from_slice(&text[plain..at]);
                plain = at + 1;
                push_escape(text[at], escape, out);
            }
            at += 1;
        }
    }
    out.extend_from_slice(&text[plain..]);
}

fn push_escape(byte: u8, escape: u8, out: &mut Vec<u8>) {
    if escape == b'u' {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let digits = [HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]];
        out.extend_from_slice(b"\\u00");
        out.extend_from_slice(&digits);
    } else {
        out.extend_from_slice(&[b'\\', escape]);
    }
}
