//! The collectors, a file each. A new one is a file, a line here and a field of [`Config`].

mod hwmon;
mod loadavg;
mod nvme;
mod powersupplyclass;
mod rapl;
mod scrape;
mod thermal_zone;
mod vmstat;

use bulkhead_sdk::{Collector, Families, Result, View};

pub(crate) use scrape::Scrape;

use crate::config::Config;

/// One collector.
pub(crate) trait Collect {
    /// Its name, and the files that it wants.
    fn wants(&self) -> Collector;

    /// Makes series of the files.
    ///
    /// # Errors
    /// If there is nothing to tell: the file that it is about is missing or makes no sense at all.
    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()>;
}

/// Options of collectors, each in its collector's file.
pub(crate) mod options {
    pub(crate) use super::hwmon::Options as Hwmon;
    pub(crate) use super::powersupplyclass::Options as PowerSupplyClass;
    pub(crate) use super::rapl::Options as Rapl;
    pub(crate) use super::vmstat::Options as Vmstat;
}

/// The collectors that are switched on, by name.
pub(crate) fn enabled(config: &Config) -> Result<Vec<Box<dyn Collect>>> {
    let c = &config.collectors;
    let mut on: Vec<Box<dyn Collect>> = Vec::new();
    let by_default = !config.disable_defaults;
    if c.hwmon.enabled.unwrap_or(by_default) {
        on.push(Box::new(hwmon::Hwmon::new(&c.hwmon)?));
    }
    if c.loadavg.enabled.unwrap_or(by_default) {
        on.push(Box::new(loadavg::Loadavg));
    }
    if c.nvme.enabled.unwrap_or(by_default) {
        on.push(Box::new(nvme::Nvme));
    }
    if c.powersupplyclass.enabled.unwrap_or(by_default) {
        let options = &c.powersupplyclass;
        on.push(Box::new(powersupplyclass::PowerSupplyClass::new(options)?));
    }
    if c.rapl.enabled.unwrap_or(by_default) {
        on.push(Box::new(rapl::Rapl::new(&c.rapl)));
    }
    if c.thermal_zone.enabled.unwrap_or(by_default) {
        on.push(Box::new(thermal_zone::ThermalZone));
    }
    if c.vmstat.enabled.unwrap_or(by_default) {
        on.push(Box::new(vmstat::Vmstat::new(&c.vmstat)?));
    }
    Ok(on)
}
