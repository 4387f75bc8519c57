//! Asking the plugin about a batch, and what to do with lines that it cannot process.
//!
//! A call that fails ends the instance; the actor makes another one, and the batch is asked about
//! again. If it fails once more its lines are asked about one by one. A line that fails alone three
//! times, while others succeed, is set aside for the dead-letter file; if nothing succeeds, the
//! plugin is broken and not the line, and the batch waits. All of this is counted for one revision:
//! what another one failed or managed says nothing about the one at work.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::batch::{Batch, Span};
use super::output::{Content, DestinationSet, Output};
use super::verdict::{self, Routing};
use crate::manifest::Manifest;
use crate::sandbox::bindings::logs::exports::bulkhead::plugin::logs as wit;
use crate::sandbox::{BlueprintId, Cause, Failure, Instance, Task, Work, WorkSender};

/// A line is set aside after this many failed calls with it alone.
const TRIES: u32 = 3;
/// After this many lines set aside without a success between them, the plugin counts as broken.
const SET_ASIDE: u32 = 16;

/// What a batch, or a part of it, came to.
pub(super) struct Processed {
    pub(super) batch: Batch,
    pub(super) output: Output,
    /// Why the (only) line was set aside, if it was.
    pub(super) set_aside: Option<String>,
}

/// The actor has ended; whatever was not settled is read again.
#[derive(Debug)]
pub(super) struct Ended;

/// Asks one plugin.
pub(super) struct Processor {
    work: WorkSender,
    routing: Arc<Routing>,
    /// The revision that was asked last.
    revision: BlueprintId,
    /// Lines set aside since a call of that revision last succeeded.
    set_aside: u32,
    /// Whether any call of it has succeeded.
    proven: bool,
}

/// A line that failed alone.
struct Suspect {
    batch: Batch,
    reason: String,
    /// How often in a row under `revision`.
    tries: u32,
    revision: BlueprintId,
}

impl Processor {
    pub(super) fn new(work: WorkSender, routing: Routing) -> Self {
        Self {
            work,
            routing: Arc::new(routing),
            revision: BlueprintId::default(),
            set_aside: 0,
            proven: false,
        }
    }

    /// Asks until the whole batch is decided. Parts come in order.
    pub(super) async fn process(&mut self, batch: Batch) -> Result<Vec<Processed>, Ended> {
        if batch.lines.is_empty() {
            return Ok(vec![Processed {
                batch,
                output: nothing(),
                set_aside: None,
            }]);
        }
        let batch = match self.ask(batch).await? {
            Ok(processed) => return Ok(vec![processed]),
            Err((batch, _)) => batch,
        };
        let batch = match self.ask(batch).await? {
            Ok(processed) => return Ok(vec![processed]),
            Err((batch, _)) => batch,
        };
        self.one_by_one(batch).await
    }

    async fn one_by_one(&mut self, batch: Batch) -> Result<Vec<Processed>, Ended> {
        let mut parts = Vec::new();
        // First every line its tries: a success among them tells a bad line from a broken plugin.
        for single in singles(&batch) {
            parts.push(match self.ask(single).await? {
                Ok(processed) => Ok(processed),
                Err((batch, failure)) => {
                    let suspect = Suspect {
                        batch,
                        reason: failure.to_string(),
                        tries: 1,
                        revision: self.revision,
                    };
                    self.retry(suspect, |_, suspect| suspect.tries < TRIES)
                        .await?
                }
            });
        }
        let witness = parts.iter().flatten().next();
        let witness = witness.map(|processed| processed.batch.clone());
        let mut processed = Vec::with_capacity(parts.len());
        for part in parts {
            processed.push(match part {
                Ok(part) => part,
                Err(suspect) => self.judge(suspect, witness.as_ref()).await?,
            });
        }
        Ok(processed)
    }

    /// Sets a suspect aside, unless another revision can process it. Without a success anywhere it is
    /// the plugin that is broken: wait for another revision. The actor's backoff sets the pace.
    ///
    /// `witness` is a line that was processed: one more success with it tells a plugin that works
    /// from a broken one where only bad lines are left to ask about.
    async fn judge(
        &mut self,
        mut suspect: Suspect,
        witness: Option<&Batch>,
    ) -> Result<Processed, Ended> {
        loop {
            let tried = |this: &Self, suspect: &Suspect| {
                suspect.tries >= TRIES && suspect.revision == this.revision
            };
            let retried = self.retry(suspect, |this, suspect| !tried(this, suspect));
            suspect = match retried.await? {
                Ok(part) => return Ok(part),
                Err(suspect) => suspect,
            };
            if self.proven && self.set_aside < SET_ASIDE {
                self.set_aside += 1;
                return Ok(Processed {
                    batch: suspect.batch,
                    output: nothing(),
                    set_aside: Some(suspect.reason),
                });
            }
            match witness {
                // Its answer is not used: it was before.
                Some(witness) => _ = self.ask(witness.clone()).await?,
                None => suspect.tries -= 1,
            }
        }
    }

    /// Asks about a suspect again, as long as `go_on` says so.
    async fn retry(
        &mut self,
        mut suspect: Suspect,
        go_on: impl Fn(&Self, &Suspect) -> bool,
    ) -> Result<Result<Processed, Suspect>, Ended> {
        while go_on(self, &suspect) {
            let (batch, failure) = match self.ask(suspect.batch).await? {
                Ok(processed) => return Ok(Ok(processed)),
                Err(failed) => failed,
            };
            let before = if suspect.revision == self.revision {
                suspect.tries
            } else {
                0
            };
            suspect = Suspect {
                batch,
                reason: failure.to_string(),
                tries: before.saturating_add(1),
                revision: self.revision,
            };
        }
        Ok(Err(suspect))
    }

    async fn ask(&mut self, batch: Batch) -> Result<Result<Processed, (Batch, Failure)>, Ended> {
        let (reply, answer) = oneshot::channel();
        let work = ProcessBatch {
            batch,
            routing: self.routing.clone(),
            reply,
        };
        self.work.send(Box::new(work)).await.map_err(|_| Ended)?;
        let Answer {
            batch,
            revision,
            result,
        } = answer.await.map_err(|_| Ended)?;
        if revision != self.revision {
            self.revision = revision;
            self.proven = false;
            self.set_aside = 0;
        }
        Ok(match result {
            Ok(output) => {
                self.proven = true;
                self.set_aside = 0;
                Ok(Processed {
                    batch,
                    output,
                    set_aside: None,
                })
            }
            Err(failure) => Err((batch, failure)),
        })
    }
}

fn nothing() -> Output {
    Output {
        bytes: Vec::new(),
        content: Content::All(DestinationSet::default()),
    }
}

/// The batch in parts of one line, each with the stretch of its file up to the next one.
fn singles(batch: &Batch) -> Vec<Batch> {
    // A line that was joined over several others begins before them and comes after them: no part
    // may reach beyond any line that follows.
    let mut ends: Vec<u64> = batch.spans.iter().map(|span| span.end).collect();
    let lines = batch.lines.iter().zip(&batch.positions).rev();
    let reach = lines.map(|(line, &position)| {
        let end = &mut ends[line.source as usize];
        let reach = *end;
        *end = reach.min(position);
        reach
    });
    let mut reach: Vec<u64> = reach.collect();
    reach.reverse();
    let mut reached: Vec<u64> = batch.spans.iter().map(|span| span.start).collect();
    let mut parts = Vec::with_capacity(batch.lines.len());
    for (index, line) in batch.lines.iter().enumerate() {
        let source = line.source as usize;
        let span = &batch.spans[source];
        let end = reach[index].max(reached[source]);
        let mut line = *line;
        line.offset = 0;
        line.source = 0;
        parts.push(Batch {
            lane: batch.lane,
            spans: vec![Span {
                start: reached[source],
                end,
                ..span.clone()
            }],
            bytes: batch.body(index).to_vec(),
            lines: vec![line],
            positions: vec![batch.positions[index]],
            joined: batch.joined(index).into_iter().collect(),
        });
        reached[source] = end;
    }
    parts
}

struct ProcessBatch {
    batch: Batch,
    routing: Arc<Routing>,
    reply: oneshot::Sender<Answer>,
}

struct Answer {
    batch: Batch,
    /// Who answered.
    revision: BlueprintId,
    result: Result<Output, Failure>,
}

impl Work for ProcessBatch {
    fn run<'a>(self: Box<Self>, instance: &'a mut Instance) -> Task<'a, Result<(), Failure>> {
        Box::pin(async move {
            let Self {
                batch,
                routing,
                reply,
            } = *self;
            let result = process(instance, &batch, &routing).await;
            let outcome = result.as_ref().map(|_| ()).map_err(Failure::clone);
            // Nobody waits any more if the role was stopped: the batch is read again.
            let _ = reply.send(Answer {
                batch,
                revision: instance.blueprint(),
                result,
            });
            outcome
        })
    }
}

const PROCESS: &str = "logs.process";

/// Calls the guest with a batch and checks its answer.
async fn process(
    instance: &mut Instance,
    batch: &Batch,
    routing: &Routing,
) -> Result<Output, Failure> {
    let guest = instance.logs().ok_or_else(|| no_role(PROCESS))?;
    let attributes: Vec<Vec<(&str, &str)>> = batch
        .spans
        .iter()
        .map(|span| {
            let attributes = span.source.attributes.iter();
            attributes
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect()
        })
        .collect();
    let paths: Vec<_> = batch
        .spans
        .iter()
        .map(|span| span.source.path.to_string_lossy())
        .collect();
    let sources: Vec<wit::Source<'_>> = paths
        .iter()
        .zip(&attributes)
        .map(|(path, attributes)| wit::Source { path, attributes })
        .collect();
    let answer = {
        let sources = &sources;
        instance
            .call(PROCESS, move |store, _| {
                Box::pin(async move {
                    let batch = wit::Batch {
                        sources,
                        bytes: &batch.bytes,
                        lines: &batch.lines,
                    };
                    store.data_mut().called_with(&(&batch,));
                    guest.call_process(store, batch).await
                })
            })
            .await?
    };
    match answer {
        Ok(verdict) => verdict::check(batch, verdict, routing).map_err(|broken| {
            instance.condemn(Failure::new(
                PROCESS,
                Cause::BrokenPromise,
                format!("broke the contract: {broken}"),
            ))
        }),
        Err(message) => Err(instance.condemn(Failure::new(
            PROCESS,
            Cause::Returned,
            format!("returned an error: {message}"),
        ))),
    }
}

fn no_role(call: &'static str) -> Failure {
    Failure::new(
        call,
        Cause::BrokenPromise,
        "the component does not export bulkhead:plugin/logs",
    )
}

/// Sets up a fresh instance: `start` with the names of the destinations, then an empty batch as a probe.
pub(super) fn prepare<'a>(
    manifest: &'a Manifest,
    instance: &'a mut Instance,
) -> Task<'a, Result<Result<(), String>, Failure>> {
    Box::pin(async move {
        const START: &str = "logs.start";
        let Some(logs) = &manifest.spec.logs else {
            return Ok(Err(
                "logs: the module has the role logs, and the manifest does not say what it reads and where its lines go; add a logs section with sources and destinations"
                    .to_owned(),
            ));
        };
        let guest = instance.logs().ok_or_else(|| no_role(START))?;
        let names: Vec<&str> = logs
            .destinations
            .iter()
            .map(|destination| destination.name.as_str())
            .collect();
        let started = {
            let names = &names;
            instance
                .call(START, move |store, _| {
                    store.data_mut().called_with(&(names,));
                    Box::pin(async move { guest.call_start(store, names).await })
                })
                .await?
        };
        if let Err(message) = started {
            return Ok(Err(format!("config: {message}")));
        }
        process(instance, &Batch::default(), &Routing::new(logs)).await?;
        Ok(Ok(()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::role::logs::batch::{FileId, Fingerprint, Line, Source};

    #[test]
    fn single_lines_cover_the_whole_span_in_order() {
        let span = |inode, start, end| Span {
            file: FileId { device: 1, inode },
            generation: 0,
            fingerprint: Fingerprint::default(),
            source: Arc::new(Source {
                path: Path::new("/x").into(),
                attributes: vec![],
            }),
            start,
            end,
            again: false,
            footprint: None,
        };
        let mut batch = Batch {
            spans: vec![span(1, 10, 40), span(2, 0, 5)],
            ..Batch::default()
        };
        for (source, position) in [(0, 10), (1, 0), (0, 30), (0, 20), (0, 45)] {
            batch.lines.push(Line {
                time: 0,
                offset: batch.bytes.len() as u32,
                length: 1,
                source,
                flags: 0,
            });
            batch.positions.push(position);
            batch.bytes.push(b'a' + position as u8);
        }
        let spans: Vec<_> = singles(&batch)
            .iter()
            .map(|part| {
                assert_eq!(part.body(0).len(), 1);
                let span = &part.spans[0];
                (span.file.inode, span.start, span.end)
            })
            .collect();
        let expected = [
            (1, 10, 20),
            (2, 0, 5),
            (1, 20, 20),
            (1, 20, 40),
            (1, 40, 40),
        ];
        assert_eq!(spans, expected);
    }
}
