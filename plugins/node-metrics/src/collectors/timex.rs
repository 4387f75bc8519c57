//! How the kernel's clock is kept right, as adjtimex(2) has it.

use bulkhead_sdk::metrics::Kind;
use bulkhead_sdk::{Collector, Error, Families, Result, View, node_stats};

use super::Collect;

/// The state of a clock that is not synchronised.
const TIME_ERROR: i32 = 5;
/// The status bit of a clock that counts in nanoseconds.
const STA_NANO: i32 = 0x2000;

const MICROSECONDS: f64 = 1e6;
const NANOSECONDS: f64 = 1e9;
/// Frequencies are in parts per million, with 16 bits after the point.
const PPM: f64 = 1_000_000.0 * 65_536.0;

pub(crate) struct Timex;

impl Collect for Timex {
    fn wants(&self) -> Collector {
        Collector::new("timex")
    }

    fn collect(&mut self, _: &View, out: &mut Families) -> Result<()> {
        let clock = node_stats::clock().map_err(Error::new)?;
        let unit = match clock.status & STA_NANO {
            0 => MICROSECONDS,
            _ => NANOSECONDS,
        };
        let is_synchronised = u8::from(clock.state != TIME_ERROR);
        for (kind, name, value, help) in [
            (
                Kind::Gauge,
                "sync_status",
                f64::from(is_synchronised),
                "Is clock synchronized to a reliable server (1 = yes, 0 = no).",
            ),
            (
                Kind::Gauge,
                "offset_seconds",
                clock.offset as f64 / unit,
                "Time offset in between local system and reference clock.",
            ),
            (
                Kind::Gauge,
                "frequency_adjustment_ratio",
                1.0 + clock.frequency as f64 / PPM,
                "Local clock frequency adjustment.",
            ),
            (
                Kind::Gauge,
                "maxerror_seconds",
                clock.max_error as f64 / MICROSECONDS,
                "Maximum error in seconds.",
            ),
            (
                Kind::Gauge,
                "estimated_error_seconds",
                clock.estimated_error as f64 / MICROSECONDS,
                "Estimated error in seconds.",
            ),
            (
                Kind::Gauge,
                "status",
                f64::from(clock.status),
                "Value of the status array bits.",
            ),
            (
                Kind::Gauge,
                "loop_time_constant",
                clock.constant as f64,
                "Phase-locked loop time constant.",
            ),
            (
                Kind::Gauge,
                "tick_seconds",
                clock.tick as f64 / MICROSECONDS,
                "Seconds between clock ticks.",
            ),
            (
                Kind::Gauge,
                "pps_frequency_hertz",
                clock.pps_frequency as f64 / PPM,
                "Pulse per second frequency.",
            ),
            (
                Kind::Gauge,
                "pps_jitter_seconds",
                clock.jitter as f64 / unit,
                "Pulse per second jitter.",
            ),
            (
                Kind::Gauge,
                "pps_shift_seconds",
                f64::from(clock.shift),
                "Pulse per second interval duration.",
            ),
            (
                Kind::Gauge,
                "pps_stability_hertz",
                clock.stability as f64 / PPM,
                "Pulse per second stability, average of recent frequency changes.",
            ),
            (
                Kind::Counter,
                "pps_jitter_total",
                clock.jitter_count as f64,
                "Pulse per second count of jitter limit exceeded events.",
            ),
            (
                Kind::Counter,
                "pps_calibration_total",
                clock.calibration_count as f64,
                "Pulse per second count of calibration intervals.",
            ),
            (
                Kind::Counter,
                "pps_error_total",
                clock.error_count as f64,
                "Pulse per second count of calibration errors.",
            ),
            (
                Kind::Counter,
                "pps_stability_exceeded_total",
                clock.stability_count as f64,
                "Pulse per second count of stability limit exceeded events.",
            ),
            (
                Kind::Gauge,
                "tai_offset_seconds",
                f64::from(clock.tai),
                "International Atomic Time (TAI) offset.",
            ),
        ] {
            let family = out.family(kind, &format!("node_timex_{name}"), help);
            out.add(family, &[], value);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use bulkhead_sdk::node_stats::Clock;
    use bulkhead_sdk::testing::{Files, Found, Harness, set_clock};

    fn collect() -> bulkhead_sdk::Result<Found> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        plugin.collect("timex", &Files::new())
    }

    #[test]
    fn tells_how_the_clock_is_kept() {
        assert!(collect().is_err(), "the host does not know");
        let clock = Clock {
            state: 0,
            status: 0x2001,
            offset: 1_500_000,
            frequency: 655_360,
            max_error: 16_000,
            estimated_error: 500,
            constant: 7,
            tick: 10_000,
            pps_frequency: 65_536,
            jitter: 2000,
            shift: 4,
            stability: 131_072,
            jitter_count: 1,
            calibration_count: 2,
            error_count: 3,
            stability_count: 5,
            tai: 37,
        };
        set_clock(clock);
        let found = collect().unwrap();
        assert_eq!(
            found.lines(),
            [
                "node_timex_estimated_error_seconds 0.0005",
                "node_timex_frequency_adjustment_ratio 1.00001",
                "node_timex_loop_time_constant 7",
                "node_timex_maxerror_seconds 0.016",
                "node_timex_offset_seconds 0.0015",
                "node_timex_pps_calibration_total 2",
                "node_timex_pps_error_total 3",
                "node_timex_pps_frequency_hertz 0.000001",
                "node_timex_pps_jitter_seconds 0.000002",
                "node_timex_pps_jitter_total 1",
                "node_timex_pps_shift_seconds 4",
                "node_timex_pps_stability_exceeded_total 5",
                "node_timex_pps_stability_hertz 0.000002",
                "node_timex_status 8193",
                "node_timex_sync_status 1",
                "node_timex_tai_offset_seconds 37",
                "node_timex_tick_seconds 0.01",
            ]
        );
        assert_eq!(found.kind("node_timex_pps_jitter_total"), Some("counter"));
        set_clock(Clock {
            state: 5,
            status: 0x40,
            ..clock
        });
        let found = collect().unwrap();
        assert_eq!(found.value("node_timex_sync_status"), Some(0.0));
        assert_eq!(found.value("node_timex_offset_seconds"), Some(1.5));
    }
}
