//! The kernel's random numbers: `/proc/sys/kernel/random`.

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use crate::text::integer_at;

const AVAILABLE: &str = "/proc/sys/kernel/random/entropy_avail";
const POOL_SIZE: &str = "/proc/sys/kernel/random/poolsize";

pub(crate) struct Entropy;

impl Collect for Entropy {
    fn wants(&self) -> Collector {
        let collector = Collector::new("entropy").content(AVAILABLE);
        collector.content(POOL_SIZE)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let (available, pool_size) = (integer_at(view, AVAILABLE)?, integer_at(view, POOL_SIZE)?);
        let help = "Bits of available entropy.";
        let family = out.gauge("node_entropy_available_bits", help);
        out.add(family, &[], available as f64);
        let family = out.gauge("node_entropy_pool_size_bits", "Bits of entropy pool.");
        out.add(family, &[], pool_size as f64);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::{AVAILABLE, POOL_SIZE};
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    #[test]
    fn tells_bits() {
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        let files = Files::new()
            .file(AVAILABLE, "1337\n")
            .file(POOL_SIZE, "4096\n");
        assert_eq!(
            plugin.collect("entropy", &files).unwrap().lines(),
            [
                "node_entropy_available_bits 1337",
                "node_entropy_pool_size_bits 4096",
            ]
        );
        let one = Files::new().file(AVAILABLE, "1337\n");
        assert!(plugin.collect("entropy", &one).is_err());
    }

    #[test]
    fn survives_nonsense() {
        survives("entropy", "{}", &[(AVAILABLE, "1\n"), (POOL_SIZE, "2\n")]);
    }
}
