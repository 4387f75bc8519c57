//! Sampling, and the counters that outlive an update.

use bulkhead_sdk::{Context, Error, Result, Snapshot};

use crate::condition::Condition;
use crate::config;
use crate::record::{Field, Record, Scratch};

/// Layout of the snapshot: pairs of a rule's identity and its counter, little-endian.
const VERSION: u32 = 1;

#[derive(Debug)]
pub(crate) struct Sampler {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    rate: u64,
    key: Option<Field>,
    when: Option<Condition>,
    /// Lines that this rule counted, over all revisions that had it.
    count: u64,
    /// Hash of the rule as configured: another rule starts another count.
    identity: u64,
}

impl Sampler {
    pub(crate) fn new(config: &[config::Sample]) -> Result<Self> {
        let rule = |(index, sample): (usize, &config::Sample)| {
            if sample.rate == 0 {
                let error = Error::new("must be at least 1; to drop lines, write a filter");
                return Err(error.at("rate").at(format!("[{index}]")));
            }
            let when = sample.when.as_ref().map(Condition::new).transpose();
            Ok(Rule {
                rate: sample.rate,
                key: sample.key.as_deref().map(Field::new),
                when: when.at("when").at(format!("[{index}]"))?,
                count: 0,
                identity: hash(format!("{sample:?}").as_bytes()),
            })
        };
        let rules = config.iter().enumerate().map(rule).collect::<Result<_>>()?;
        Ok(Self { rules })
    }

    /// Whether the line passes.
    #[inline]
    pub(crate) fn passes(&mut self, record: &Record<'_>, scratch: &mut Scratch) -> bool {
        let concerned = self.rules.iter_mut().find(|rule| {
            rule.when
                .as_ref()
                .is_none_or(|when| when.holds(record, scratch))
        });
        let Some(rule) = concerned else {
            return true;
        };
        if let Some(text) = rule.key.as_ref().and_then(|key| record.text(key, scratch)) {
            return hash(text).is_multiple_of(rule.rate);
        }
        let passes = rule.count % rule.rate == 0;
        rule.count = rule.count.wrapping_add(1);
        passes
    }

    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        let data: Vec<u8> = self
            .rules
            .iter()
            .flat_map(|rule| [rule.identity, rule.count])
            .flat_map(u64::to_le_bytes)
            .collect();
        (!data.is_empty()).then_some(Snapshot {
            version: VERSION,
            data,
        })
    }

    pub(crate) fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let (pairs, []) = snapshot.data.as_chunks::<16>() else {
            return Err(Error::new(
                "the sampling counters of the predecessor are torn",
            ));
        };
        if snapshot.version != VERSION {
            return Err(Error::new(format!(
                "the predecessor's sampling counters have layout {}, known is {VERSION}",
                snapshot.version
            )));
        }
        for pair in pairs {
            let [identity, count] = [0, 8].map(|at| {
                pair[at..]
                    .first_chunk::<8>()
                    .map_or(0, |bytes| u64::from_le_bytes(*bytes))
            });
            for rule in self
                .rules
                .iter_mut()
                .filter(|rule| rule.identity == identity)
            {
                rule.count = count;
            }
        }
        Ok(())
    }
}

/// FNV-1a with a final mixing: the same on every node and in every version, as `rate` lines of one
/// key must be dropped everywhere or nowhere.
fn hash(bytes: &[u8]) -> u64 {
    let mixed = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}
