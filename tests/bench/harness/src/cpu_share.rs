//! The part of a core that Lambda gives a memory size, as a quota of a control group.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The memory size at which Lambda gives a whole core, in MB
/// (`https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html`).
const MEMORY_OF_A_CORE: u32 = 1769;

/// Lambda's period, in microseconds, as its CPU throttling shows.
const PERIOD: u32 = 20_000;

const V1: &str = "/sys/fs/cgroup/cpu";
const V2: &str = "/sys/fs/cgroup";

/// A control group with a quota. It is removed when it is dropped, if its process has ended.
pub(crate) struct CpuShare(PathBuf);

impl CpuShare {
    /// A group with the share of a memory size, in MB.
    pub(crate) fn of_memory(megabytes: u32) -> Result<Self> {
        let quota = PERIOD * megabytes / MEMORY_OF_A_CORE;
        let name = format!("circle-pin-reset-bench-{}", std::process::id());
        let write = |group: &Path, file: &str, value: String| {
            fs::write(group.join(file), value)
                .with_context(|| format!("cannot write {file} of a control group"))
        };
        if Path::new(V1).join("cpu.cfs_quota_us").exists() {
            let group = create(&Path::new(V1).join(name))?;
            write(&group.0, "cpu.cfs_period_us", PERIOD.to_string())?;
            write(&group.0, "cpu.cfs_quota_us", quota.to_string())?;
            return Ok(group);
        }
        if Path::new(V2).join("cgroup.controllers").exists() {
            write(Path::new(V2), "cgroup.subtree_control", "+cpu".to_owned())?;
            let group = create(&Path::new(V2).join(name))?;
            write(&group.0, "cpu.max", format!("{quota} {PERIOD}"))?;
            return Ok(group);
        }
        bail!("this machine has no control groups")
    }

    /// Limits a process from now on.
    pub(crate) fn limit(&self, pid: u32) -> Result<()> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())
            .context("cannot move a process to a control group")
    }
}

fn create(group: &Path) -> Result<CpuShare> {
    let _ = fs::remove_dir(group);
    fs::create_dir(group).context("cannot create a control group")?;
    Ok(CpuShare(group.to_owned()))
}

impl Drop for CpuShare {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
