//! What the fixture can do to its host.

use std::hint::black_box;

use bulkhead_sdk::__private::logs::{Encoded, OutputLine, Payload, Rewrite, Verdict};
use bulkhead_sdk::{Batch, Error, Output, Result, info};

use crate::Fixture;
use crate::config::{Act, When};

const NO_ROUTE: u32 = u32::MAX;

impl Fixture {
    /// Does what is configured for this call, if it is time.
    pub(crate) fn faults(
        &mut self,
        when: When,
        batch: Option<&Batch>,
        mut out: Option<&mut Output>,
    ) -> Result<()> {
        for fault in self.config.faults.clone() {
            let marked = |batch: &Batch| {
                let marked = |text: &str| text.contains(&fault.marker);
                batch.lines().any(|line| line.text().is_some_and(marked))
            };
            let due = when != When::Process || self.batches > fault.after_batches;
            if fault.at != when || !due || !batch.is_none_or(marked) {
                continue;
            }
            commit(fault.act, when)?;
            if let (Some(batch), Some(out)) = (batch, out.as_deref_mut())
                && let Some(verdict) = garbage(fault.act, batch.len() as u32)
            {
                out.answer_raw(verdict);
            }
        }
        Ok(())
    }
}

#[allow(clippy::panic, reason = "that is its purpose")]
fn commit(act: Act, when: When) -> Result<()> {
    match act {
        Act::Loop => loop {
            black_box(0);
        },
        Act::Panic => panic!("fixture panic at {when:?}"),
        Act::OverflowStack => {
            black_box(overflow(0));
        }
        Act::Allocate => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        Act::Error => return Err(Error::new(format!("fixture error at {when:?}")).at("faults")),
        Act::Sleep => std::thread::sleep(std::time::Duration::from_secs(3600)),
        Act::Exit => std::process::exit(3),
        Act::SpamLog => {
            for number in 0..10_000 {
                info!("spam {number}"; "number" = number);
            }
        }
        Act::SpamStderr => {
            // Made once: padding is written byte by byte.
            let line = format!("{:1023}", "spam");
            for _ in 0..(16 << 10) {
                eprintln!("{line}");
            }
        }
        _ => {}
    }
    Ok(())
}

#[allow(unconditional_recursion, reason = "that is its purpose")]
fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    overflow(depth + 1) + frame[(depth % 64) as usize]
}

fn line() -> OutputLine {
    OutputLine {
        time: 0,
        line: 0,
        route: NO_ROUTE,
        body_offset: 0,
        body_length: 1,
        fields_offset: 0,
        fields_length: 0,
        flags: 0,
    }
}

fn rewrite(change: impl FnOnce(&mut Rewrite)) -> Verdict {
    let mut rewrite = Rewrite {
        bytes: b"x,".to_vec(),
        lines: vec![line()],
        routes: Vec::new(),
    };
    change(&mut rewrite);
    Verdict::Rewrite(rewrite)
}

fn encoded(change: impl FnOnce(&mut Encoded)) -> Verdict {
    let mut encoded = Encoded {
        bytes: b"x\n".to_vec(),
        payloads: vec![Payload {
            offset: 0,
            length: 2,
            route: NO_ROUTE,
            line_count: 1,
        }],
        lines: vec![0],
        routes: Vec::new(),
    };
    change(&mut encoded);
    Verdict::Encoded(encoded)
}

/// A verdict that breaks one promise of the contract.
fn garbage(act: Act, lines: u32) -> Option<Verdict> {
    Some(match act {
        Act::IndexOutOfRange => Verdict::Keep(vec![lines]),
        Act::NotAscending => Verdict::Keep(vec![0, 0]),
        Act::BodyOutOfBounds => rewrite(|answer| answer.lines[0].body_offset = u32::MAX),
        Act::FieldsOutOfBounds => rewrite(|answer| answer.lines[0].fields_length = 3),
        Act::UnknownRoute => rewrite(|answer| answer.lines[0].route = 0),
        Act::UnknownDestination => rewrite(|answer| {
            answer.routes = vec![vec!["no-such-destination".to_owned()]];
            answer.lines[0].route = 0;
        }),
        Act::ReservedFlags => rewrite(|answer| answer.lines[0].flags = 1 << 7),
        Act::InvalidFields => rewrite(|answer| answer.lines[0].fields_length = 2),
        Act::InvalidBody => rewrite(|answer| answer.lines[0].flags = 1 << 1),
        Act::HugeOutput => rewrite(|answer| {
            answer.bytes = vec![b'x'; 64 << 20];
            answer.lines[0].body_length = 64 << 20;
        }),
        Act::HugeTable => rewrite(|answer| answer.lines = vec![line(); 1_000_000]),
        Act::PayloadOutOfBounds => encoded(|answer| answer.payloads[0].length = 3),
        Act::PayloadLineOutOfRange => encoded(|answer| answer.lines[0] = lines),
        Act::PayloadTakesTooMany => encoded(|answer| answer.payloads[0].line_count = 2),
        _ => return None,
    })
}
