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
    let mut on = Chosen {
        by_default: !config.disable_defaults,
        collectors: Vec::new(),
    };
    on.add(c.arp.enabled, || arp::Arp::new(&c.arp))?;
    on.add(c.bcache.enabled, || Ok(bcache::Bcache::new(&c.bcache)))?;
    on.add(c.bonding.enabled, || Ok(bonding::Bonding))?;
    on.add(c.btrfs.enabled, || Ok(btrfs::Btrfs))?;
    on.add(c.cgroups.enabled, || Ok(cgroups::Cgroups))?;
    on.add(c.conntrack.enabled, || Ok(conntrack::Conntrack))?;
    on.add(c.cpu.enabled, || cpu::Cpu::new(&c.cpu))?;
    on.add(c.cpufreq.enabled, || Ok(cpufreq::Cpufreq))?;
    on.add(c.diskstats.enabled, || {
        diskstats::Diskstats::new(&c.diskstats)
    })?;
    on.add(c.dmi.enabled, || Ok(dmi::Dmi))?;
    on.add(c.edac.enabled, || Ok(edac::Edac))?;
    on.add(c.entropy.enabled, || Ok(entropy::Entropy))?;
    on.add(c.fibrechannel.enabled, || Ok(fibrechannel::FibreChannel))?;
    on.add(c.filefd.enabled, || Ok(filefd::Filefd))?;
    on.add(c.filesystem.enabled, || {
        filesystem::Filesystem::new(&c.filesystem)
    })?;
    on.add(c.hwmon.enabled, || hwmon::Hwmon::new(&c.hwmon))?;
    on.add(c.infiniband.enabled, || Ok(infiniband::Infiniband))?;
    on.add(c.ipvs.enabled, || Ok(ipvs::Ipvs::new(&c.ipvs)))?;
    on.add(c.loadavg.enabled, || Ok(loadavg::Loadavg))?;
    on.add(c.mdadm.enabled, || Ok(mdadm::Mdadm))?;
    on.add(c.meminfo.enabled, || Ok(meminfo::Meminfo))?;
    on.add(c.netclass.enabled, || netclass::Netclass::new(&c.netclass))?;
    on.add(c.netdev.enabled, || netdev::Netdev::new(&c.netdev))?;
    on.add(c.netstat.enabled, || netstat::Netstat::new(&c.netstat))?;
    on.add(c.nfs.enabled, || Ok(nfs::Nfs))?;
    on.add(c.nfsd.enabled, || Ok(nfsd::Nfsd))?;
    on.add(c.nvme.enabled, || Ok(nvme::Nvme))?;
    on.add(c.os.enabled, || Ok(os::Os))?;
    on.add(c.powersupplyclass.enabled, || {
        powersupplyclass::PowerSupplyClass::new(&c.powersupplyclass)
    })?;
    on.add(c.pressure.enabled, || Ok(pressure::Pressure))?;
    on.add(c.rapl.enabled, || Ok(rapl::Rapl::new(&c.rapl)))?;
    on.add(c.schedstat.enabled, || Ok(schedstat::Schedstat))?;
    on.add(c.selinux.enabled, || Ok(selinux::Selinux))?;
    on.add(c.sockstat.enabled, || Ok(sockstat::Sockstat::new()))?;
    on.add(c.softnet.enabled, || Ok(softnet::Softnet))?;
    on.add(c.stat.enabled, || Ok(stat::Stat::new(&c.stat)))?;
    on.add(c.tapestats.enabled, || {
        tapestats::Tapestats::new(&c.tapestats)
    })?;
    on.add(c.textfile.enabled, || {
        Ok(textfile::Textfile::new(&c.textfile))
    })?;
    on.add(c.thermal_zone.enabled, || Ok(thermal_zone::ThermalZone))?;
    on.add(c.time.enabled, || Ok(time::Time))?;
    on.add(c.timex.enabled, || Ok(timex::Timex))?;
    on.add(c.udp_queues.enabled, || Ok(udp_queues::UdpQueues))?;
    on.add(c.uname.enabled, || Ok(uname::Uname))?;
    on.add(c.vmstat.enabled, || vmstat::Vmstat::new(&c.vmstat))?;
    on.add(c.xfs.enabled, || Ok(xfs::Xfs))?;
    on.add(c.zfs.enabled, || Ok(zfs::Zfs))?;
    Ok(on.collectors)
}

struct Chosen {
    by_default: bool,
    collectors: Vec<Box<dyn Collect>>,
}

impl Chosen {
    /// Makes a collector if it is on.
    fn add<C: Collect + 'static>(
        &mut self,
        enabled: Option<bool>,
        make: impl FnOnce() -> Result<C>,
    ) -> Result<()> {
        if enabled.unwrap_or(self.by_default) {
            self.collectors.push(Box::new(make()?));
        }
        Ok(())
    }
}
