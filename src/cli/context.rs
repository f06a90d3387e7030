//! What every command works with: configuration, the form of its output, and whether it may ask.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::exit::Refused;
use crate::config::{Config, ConfigError, Sources};
use crate::control::ControlPlane;
use crate::http::Node;

/// The form of results on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs; the field names are the API's.
    Json,
}

/// What a command works with.
#[derive(Debug, Clone)]
pub struct Context {
    /// The configuration in effect.
    pub config: Arc<Config>,
    /// Where it was read from; `dev` reads it again with its own settings.
    pub sources: Sources,
    /// The form of results.
    pub output: Output,
    /// Destructive commands ask nothing.
    pub yes: bool,
}

impl Context {
    /// The control plane, as the commands of operators use it. Opens nothing yet.
    ///
    /// # Errors
    /// If the configuration lacks it or its keys.
    pub fn control(&self) -> Result<ControlPlane, ConfigError> {
        Node::open(&self.config).map(|node| node.control)
    }

    /// Prints a result: `value` as JSON, or the rows as a table.
    ///
    /// # Errors
    /// If stdout does not take it.
    pub fn print<R, C>(&self, value: &impl Serialize, header: &[&str], rows: R) -> anyhow::Result<()>
    where
        R: IntoIterator<Item = Vec<C>>,
        C: Into<comfy_table::Cell>,
    {
        let text = match self.output {
            Output::Json => serde_json::to_string_pretty(value)?,
            Output::Table => table(header, rows),
        };
        self.say(&text)
    }

    /// Prints one thing: `value` as JSON, or name and value on each line.
    ///
    /// # Errors
    /// If stdout does not take it.
    pub fn print_one(&self, value: &impl Serialize, fields: &[(&str, String)]) -> anyhow::Result<()> {
        let text = match self.output {
            Output::Json => serde_json::to_string_pretty(value)?,
            Output::Table => {
                let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
                let lines = fields.iter().map(|(name, value)| format!("{name:width$}  {value}"));
                lines.collect::<Vec<_>>().join("\n")
            }
        };
        self.say(&text)
    }

    /// Writes a line of the result to stdout.
    ///
    /// # Errors
    /// If stdout does not take it.
    pub fn say(&self, text: &str) -> anyhow::Result<()> {
        match writeln!(io::stdout().lock(), "{text}") {
            // The reader has seen enough, as `head` does.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => Ok(done?),
        }
    }

    /// Writes a line about what is going on to stderr.
    pub fn progress(&self, text: &str) {
        // There is nowhere to say that stderr is gone.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Asks before something is destroyed. `--yes` answers; without a terminal it is refused.
    ///
    /// # Errors
    /// [`Refused`] unless the answer is yes.
    pub fn confirm(&self, what: &str) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Refused::new(format!("{what} needs a confirmation"), "add --yes").into());
        }
        write!(io::stderr().lock(), "{what}. Go on? [y/N] ")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(Refused::new("not confirmed", "nothing was done").into())
    }
}

/// Rows under their header, for people.
pub(super) fn table<R, C>(header: &[impl AsRef<str>], rows: R) -> String
where
    R: IntoIterator<Item = Vec<C>>,
    C: Into<comfy_table::Cell>,
{
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| name.as_ref().to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    table.trim_fmt()
}
