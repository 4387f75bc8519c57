//! Prometheus' text format, version 0.0.4:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use super::number::number;
use super::{Exposition, Kind, head, own_families, samples};

pub(super) fn write(exposition: &Exposition<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 << 10);
    for family in exposition.families() {
        let kind = match family.kind {
            Kind::Counter => "counter",
            // The format has no type for an info.
            Kind::Gauge | Kind::Info => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
            Kind::Untyped => "untyped",
        };
        head(&mut out, family.name, family.help, kind, false);
        samples(&mut out, &family, "", number);
    }
    own_families(&mut out, exposition);
    out
}
