//! The collectors, a file each. A new one is a file, a line here and a field of [`Config`].

mod arp;
mod bcache;
mod bonding;
mod btrfs;
mod cgroups;
mod conntrack;
mod cpu;
mod cpufreq;
mod diskstats;
mod dmi;
mod edac;
mod entropy;
mod fibrechannel;
mod filefd;
mod filesystem;
mod hwmon;
mod infiniband;
mod ipvs;
mod loadavg;
mod mdadm;
mod meminfo;
mod netclass;
mod netdev;
mod netstat;
mod nfs;
mod nfsd;
mod nvme;
mod os;
mod powersupplyclass;
mod pressure;
mod rapl;
mod rpc;
mod schedstat;
mod scrape;
mod selinux;
mod sockstat;
mod softnet;
mod stat;
mod tapestats;
mod textfile;
mod thermal_zone;
mod time;
mod timex;
mod udp_queues;
mod uname;
mod vmstat;
mod xfs;
mod zfs;

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
    pub(crate) use super::arp::Options as Arp;
    pub(crate) use super::bcache::Options as Bcache;
    pub(crate) use super::cpu::Options as Cpu;
    pub(crate) use super::diskstats::Options as Diskstats;
    pub(crate) use super::filesystem::Options as Filesystem;
    pub(crate) use super::hwmon::Options as Hwmon;
    pub(crate) use super::ipvs::Options as Ipvs;
    pub(crate) use super::netclass::Options as Netclass;
    pub(crate) use super::netdev::Options as Netdev;
    pub(crate) use super::netstat::Options as Netstat;
    pub(crate) use super::powersupplyclass::Options as PowerSupplyClass;
    pub(crate) use super::rapl::Options as Rapl;
    pub(crate) use super::stat::Options as Stat;
    pub(crate) use super::tapestats::Options as Tapestats;
    pub(crate) use super::textfile::Options as Textfile;
    pub(crate) use super::vmstat::Options as Vmstat;
}

/// The collectors that are switched on, by name.
pub(crate) fn enabled(config: &Config) -> Result<Vec<Box<dyn Collect>>> {
    let c = &config.collectors;
    let mut on: Vec<Box<dyn Collect>> = Vec::new();
    let by_default = !config.disable_defaults;
    if c.arp.enabled.unwrap_or(by_default) {
        on.push(Box::new(arp::Arp::new(&c.arp)?));
    }
    if c.bcache.enabled.unwrap_or(by_default) {
        on.push(Box::new(bcache::Bcache::new(&c.bcache)));
    }
    if c.bonding.enabled.unwrap_or(by_default) {
        on.push(Box::new(bonding::Bonding));
    }
    if c.btrfs.enabled.unwrap_or(by_default) {
        on.push(Box::new(btrfs::Btrfs));
    }
    if c.cgroups.enabled.unwrap_or(by_default) {
        on.push(Box::new(cgroups::Cgroups));
    }
    if c.conntrack.enabled.unwrap_or(by_default) {
        on.push(Box::new(conntrack::Conntrack));
    }
    if c.cpu.enabled.unwrap_or(by_default) {
        on.push(Box::new(cpu::Cpu::new(&c.cpu)?));
    }
    if c.cpufreq.enabled.unwrap_or(by_default) {
        on.push(Box::new(cpufreq::Cpufreq));
    }
    if c.diskstats.enabled.unwrap_or(by_default) {
        on.push(Box::new(diskstats::Diskstats::new(&c.diskstats)?));
    }
    if c.dmi.enabled.unwrap_or(by_default) {
        on.push(Box::new(dmi::Dmi));
    }
    if c.edac.enabled.unwrap_or(by_default) {
        on.push(Box::new(edac::Edac));
    }
    if c.entropy.enabled.unwrap_or(by_default) {
        on.push(Box::new(entropy::Entropy));
    }
    if c.fibrechannel.enabled.unwrap_or(by_default) {
        on.push(Box::new(fibrechannel::FibreChannel));
    }
    if c.filefd.enabled.unwrap_or(by_default) {
        on.push(Box::new(filefd::Filefd));
    }
    if c.filesystem.enabled.unwrap_or(by_default) {
        on.push(Box::new(filesystem::Filesystem::new(&c.filesystem)?));
    }
    if c.hwmon.enabled.unwrap_or(by_default) {
        on.push(Box::new(hwmon::Hwmon::new(&c.hwmon)?));
    }
    if c.infiniband.enabled.unwrap_or(by_default) {
        on.push(Box::new(infiniband::Infiniband));
    }
    if c.ipvs.enabled.unwrap_or(by_default) {
        on.push(Box::new(ipvs::Ipvs::new(&c.ipvs)));
    }
    if c.loadavg.enabled.unwrap_or(by_default) {
        on.push(Box::new(loadavg::Loadavg));
    }
    if c.mdadm.enabled.unwrap_or(by_default) {
        on.push(Box::new(mdadm::Mdadm));
    }
    if c.meminfo.enabled.unwrap_or(by_default) {
        on.push(Box::new(meminfo::Meminfo));
    }
    if c.netclass.enabled.unwrap_or(by_default) {
        on.push(Box::new(netclass::Netclass::new(&c.netclass)?));
    }
    if c.netdev.enabled.unwrap_or(by_default) {
        on.push(Box::new(netdev::Netdev::new(&c.netdev)?));
    }
    if c.netstat.enabled.unwrap_or(by_default) {
        on.push(Box::new(netstat::Netstat::new(&c.netstat)?));
    }
    if c.nfs.enabled.unwrap_or(by_default) {
        on.push(Box::new(nfs::Nfs));
    }
    if c.nfsd.enabled.unwrap_or(by_default) {
        on.push(Box::new(nfsd::Nfsd));
    }
    if c.nvme.enabled.unwrap_or(by_default) {
        on.push(Box::new(nvme::Nvme));
    }
    if c.os.enabled.unwrap_or(by_default) {
        on.push(Box::new(os::Os));
    }
    if c.powersupplyclass.enabled.unwrap_or(by_default) {
        on.push(Box::new(powersupplyclass::PowerSupplyClass::new(
            &c.powersupplyclass,
        )?));
    }
    if c.pressure.enabled.unwrap_or(by_default) {
        on.push(Box::new(pressure::Pressure));
    }
    if c.rapl.enabled.unwrap_or(by_default) {
        on.push(Box::new(rapl::Rapl::new(&c.rapl)));
    }
    if c.schedstat.enabled.unwrap_or(by_default) {
        on.push(Box::new(schedstat::Schedstat));
    }
    if c.selinux.enabled.unwrap_or(by_default) {
        on.push(Box::new(selinux::Selinux));
    }
    if c.sockstat.enabled.unwrap_or(by_default) {
        on.push(Box::new(sockstat::Sockstat::new()));
    }
    if c.softnet.enabled.unwrap_or(by_default) {
        on.push(Box::new(softnet::Softnet));
    }
    if c.stat.enabled.unwrap_or(by_default) {
        on.push(Box::new(stat::Stat::new(&c.stat)));
    }
    if c.tapestats.enabled.unwrap_or(by_default) {
        on.push(Box::new(tapestats::Tapestats::new(&c.tapestats)?));
    }
    if c.textfile.enabled.unwrap_or(by_default) {
        on.push(Box::new(textfile::Textfile::new(&c.textfile)));
    }
    if c.thermal_zone.enabled.unwrap_or(by_default) {
        on.push(Box::new(thermal_zone::ThermalZone));
    }
    if c.time.enabled.unwrap_or(by_default) {
        on.push(Box::new(time::Time));
    }
    if c.timex.enabled.unwrap_or(by_default) {
        on.push(Box::new(timex::Timex));
    }
    if c.udp_queues.enabled.unwrap_or(by_default) {
        on.push(Box::new(udp_queues::UdpQueues));
    }
    if c.uname.enabled.unwrap_or(by_default) {
        on.push(Box::new(uname::Uname));
    }
    if c.vmstat.enabled.unwrap_or(by_default) {
        on.push(Box::new(vmstat::Vmstat::new(&c.vmstat)?));
    }
    if c.xfs.enabled.unwrap_or(by_default) {
        on.push(Box::new(xfs::Xfs));
    }
    if c.zfs.enabled.unwrap_or(by_default) {
        on.push(Box::new(zfs::Zfs));
    }
    Ok(on)
}
