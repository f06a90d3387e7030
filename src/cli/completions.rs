//! `tenantry completions`: what a shell offers on Tab.

use std::io::{self, Write as _};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Which shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tenantry completions bash > /etc/bash_completion.d/tenantry")]
pub struct CompletionsArgs {
    /// The shell that reads the script.
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// If stdout does not take it.
pub fn run(args: &CompletionsArgs) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "tenantry", &mut script);
    io::stdout().lock().write_all(&script)
}
