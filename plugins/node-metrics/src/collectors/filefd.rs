//! Open files: `/proc/sys/fs/file-nr`.

use bulkhead_sdk::{Collector, Families, Result, View, bail};

use super::Collect;

const PATH: &str = "/proc/sys/fs/file-nr";

pub(crate) struct Filefd;

impl Collect for Filefd {
    fn wants(&self) -> Collector {
        Collector::new("filefd").content(PATH)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let text = view.text(PATH)?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse);
        // The second has been zero since Linux 2.6.
        let (Some(Ok(allocated)), _, Some(Ok(maximum))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            bail!("{PATH} does not hold three numbers: {text:?}");
        };
        for (what, value) in [("allocated", allocated), ("maximum", maximum)] {
            let help = format!("File descriptor statistics: {what}.");
            let family = out.gauge(&format!("node_filefd_{what}"), &help);
            out.add(family, &[], value);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const FILE_NR: &str = "1024\t0\t1631329\n";

    fn collect(text: &str) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        let files = Files::new().file("/proc/sys/fs/file-nr", text);
        Ok(plugin.collect("filefd", &files)?.lines())
    }

    #[test]
    fn tells_open_files() {
        assert_eq!(
            collect(FILE_NR).unwrap(),
            ["node_filefd_allocated 1024", "node_filefd_maximum 1631329"]
        );
    }

    #[test]
    fn survives_nonsense() {
        for torn in ["", "1024\t0", "a\tb\tc"] {
            assert!(collect(torn).is_err(), "{torn:?}");
        }
        survives("filefd", "{}", &[("/proc/sys/fs/file-nr", FILE_NR)]);
    }
}
