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
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mib = |label: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(label)).context("the kernel does not say")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
    };
    Ok(Memory { resident: mib("VmRSS:")?, allocated: mib("RssAnon:")? })
}
