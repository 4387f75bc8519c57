//! Request bodies: bounded before compression, compressed off the other tasks.

use std::io::{self, Write};

use flate2::write::GzEncoder;

use crate::manifest::Compression;

/// Compression of more than this, in bytes, is kept off the other tasks of the thread. A buffer
/// that grew beyond it is given back.
const HEAVY: usize = 256 << 10;

/// Makes the bodies of one lane.
#[derive(Debug)]
pub(in super::super) struct Bodies {
    compression: Compression,
    /// The body before compression; kept for its memory.
    plain: Vec<u8>,
    uncompressed: usize,
}

impl Bodies {
    pub(in super::super) fn new(compression: Compression) -> Self {
        Self {
            compression,
            plain: Vec::new(),
            uncompressed: 0,
        }
    }

    /// Length of the last body before compression.
    pub(in super::super) fn uncompressed(&self) -> usize {
        self.uncompressed
    }

    /// Puts what `encode` writes into `body` (empty), compressed. Returns what `encode` returns.
    pub(in super::super) fn write<T>(
        &mut self,
        body: &mut Vec<u8>,
        encode: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> T {
        if self.compression == Compression::None {
            let result = encode(body);
            self.uncompressed = body.len();
            return result;
        }
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let result = encode(&mut plain);
        self.uncompressed = plain.len();
        compress(self.compression, &plain, body);
        if plain.capacity() <= HEAVY {
            self.plain = plain;
        }
        result
    }
}

/// Compresses; if that takes long, other tasks are moved off this thread first.
fn compress(compression: Compression, plain: &[u8], body: &mut Vec<u8>) {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let mut work = || {
        // Writing into memory cannot fail; a body cut short would be refused by any server.
        if try_compress(compression, plain, body).is_err() {
            tracing::error!("compressing in memory failed");
        }
    };
    let can_move = Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if plain.len() > HEAVY && can_move {
        tokio::task::block_in_place(work);
    } else {
        work();
    }
}

fn try_compress(compression: Compression, plain: &[u8], body: &mut Vec<u8>) -> io::Result<()> {
    match compression {
        Compression::None => body.extend_from_slice(plain),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(body, flate2::Compression::fast());
            encoder.write_all(plain)?;
            encoder.finish()?;
        }
        Compression::Zstd => zstd::stream::copy_encode(plain, body, 1)?,
    }
    Ok(())
}
