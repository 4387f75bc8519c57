//! OpenMetrics 1.0:
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>

use super::number::canonical;
use super::{Exposition, Kind, escaped, head, own_families, samples};

pub(super) fn write(exposition: &Exposition<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 << 10);
    for mut family in exposition.families() {
        let (kind, suffix) = match family.kind {
            // Here a counter's name ends so, and an info's: what does not is of an unknown type.
            Kind::Counter if family.name.ends_with("_total") => ("counter", "_total"),
            Kind::Info => ("info", "_info"),
            Kind::Gauge => ("gauge", ""),
            Kind::Histogram => ("histogram", ""),
            Kind::Summary => ("summary", ""),
            Kind::Counter | Kind::Untyped => ("unknown", ""),
        };
        // The family goes by the name without it.
        family.name = family.name.strip_suffix(suffix).unwrap_or(family.name);
        head(&mut out, family.name, family.help, kind, true);
        if !family.unit.is_empty() && family.name.ends_with(family.unit) {
            out.extend_from_slice(b"# UNIT ");
            out.extend_from_slice(family.name.as_bytes());
            out.push(b' ');
            escaped(&mut out, family.unit, false);
            out.push(b'\n');
        }
        samples(&mut out, &family, suffix, canonical);
    }
    own_families(&mut out, exposition);
    out.extend_from_slice(b"# EOF\n");
    out
}
