//! Streams that are packed as a whole.

use std::io::Read;

use ruzstd::decoding::StreamingDecoder;

/// What a frame may make its reader keep.
const MAX_WINDOW: u64 = 8 << 20;

pub(super) enum End {
    Reached,
    Limit,
    Damaged,
}

/// Reads at most `limit` bytes. What was read before an error is content as well.
pub(super) fn read(mut reader: impl Read, limit: u64) -> (Vec<u8>, End) {
    let mut content = Vec::new();
    let result = reader.by_ref().take(limit).read_to_end(&mut content);
    let end = match result {
        Err(_) => End::Damaged,
        Ok(_) if (content.len() as u64) < limit => End::Reached,
        Ok(_) => match reader.read(&mut [0]) {
            Ok(0) => End::Reached,
            Ok(_) => End::Limit,
            Err(_) => End::Damaged,
        },
    };
    (content, end)
}

pub(super) fn gzip(data: &[u8]) -> impl Read {
    flate2::read::MultiGzDecoder::new(data)
}

pub(super) fn deflate(data: &[u8]) -> impl Read {
    flate2::read::DeflateDecoder::new(data)
}

pub(super) fn zstd(data: &[u8]) -> impl Read {
    Frames {
        rest: data,
        frame: None,
    }
}

/// One frame after another.
struct Frames<'d> {
    rest: &'d [u8],
    frame: Option<Box<StreamingDecoder<&'d [u8], ruzstd::decoding::FrameDecoder>>>,
}

impl Read for Frames<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let read = frame.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
                self.rest = frame.get_ref();
                self.frame = None;
            }
            self.rest = skippable(self.rest);
            if self.rest.is_empty() {
                return Ok(0);
            }
            let frame = StreamingDecoder::new_with_max_window_size(self.rest, MAX_WINDOW);
            self.frame = Some(Box::new(frame.map_err(std::io::Error::other)?));
        }
    }
}

/// What follows frames without content.
fn skippable(mut data: &[u8]) -> &[u8] {
    while let [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, rest @ ..] = data {
        let size = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        data = rest.get(size..).unwrap_or_default();
    }
    data
}
