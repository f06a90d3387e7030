//! What the kernel says of a process.

use anyhow::{Context as _, Result};

/// Memory of a process, in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// All that is resident, the program's own text included.
    pub resident: f64,
    /// What it has allocated, and keeps.
    pub allocated: f64,
}

/// Looks at a process.
pub fn memory(pid: u32) -> Result<Memory> {
    Ok(Memory { resident: mib(pid, "VmRSS:")?, allocated: mib(pid, "RssAnon:")? })
}

/// The most that was resident at a time, in MiB, since the process began or [`forget_peak`].
pub fn peak(pid: u32) -> Result<f64> {
    mib(pid, "VmHWM:")
}

/// The peak of a process is what it has now, from here on.
pub fn forget_peak(pid: u32) -> Result<()> {
    Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

fn mib(pid: u32, label: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(label)).context("the kernel does not say")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}
