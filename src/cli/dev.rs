//! `tenantry dev`: everything on this machine.

use clap::Args;

use super::Context;
use crate::dev::{self, DevOptions};

/// Options of `dev`. The data directory is the global `--data-dir`, `.tenantry` by default.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tenantry dev\n  tenantry dev --port 9000 --data-dir /tmp/try --tenants 50")]
pub struct DevArgs {
    /// Port of the API on loopback; 0 takes a free one [default: 8080, or that of TENANTRY_LISTEN].
    #[arg(long)]
    port: Option<u16>,
    /// Begin anew: removes all data of the directory first.
    #[arg(long)]
    reset: bool,
    /// How many demo tenants there shall be in all: acme, globex, t0003 …
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    tenants: u16,
}

impl DevArgs {
    /// Runs it until Ctrl-C.
    ///
    /// # Errors
    /// What could not be started, with a remedy where it is known.
    pub async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let options = DevOptions { port: self.port, reset: self.reset, tenants: usize::from(self.tenants) };
        dev::run(context.sources.clone(), options).await
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    #[test]
    fn one_demo_tenant_to_ten_thousand() {
        let taken = |number: &str| Cli::try_parse_from(["tenantry", "dev", "--tenants", number]).is_ok();
        assert_eq!(["1", "10000", "0", "10001"].map(taken), [true, true, false, false]);
    }
}
