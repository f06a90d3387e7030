//! `tenantry pool`: the connection pools of a running server.

mod rates;
mod screen;
mod table;

use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::remote::{Remote, RemoteArgs};
use super::serve::stop_signal;
use super::{Context, Output, Refused, Usage};
use crate::config::Span;
use crate::router::MOST_TENANTS;
use crate::router::TopBy;
use rates::Rates;
use screen::Screen;

/// The shortest pause between two looks: the server has other work.
const SHORTEST: Duration = Duration::from_millis(100);

/// What to look at.
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// Show the tenants that use the pools most, again and again, until Ctrl-C.
    #[command(after_help = "Examples:\n  tenantry pool top\n  tenantry pool top --by database --limit 10\n  \
                            tenantry pool top --once --output json\n  \
                            tenantry pool top --url https://api.example.com --email ops@example.com --password-file pw")]
    Top(TopArgs),
}

/// Options of `pool top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// By what tenants stand out: between two looks, or from the start with --once.
    #[arg(long, default_value = "wait", value_parser = by())]
    by: TopBy,
    /// How many tenants.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=MOST_TENANTS as i64))]
    limit: u16,
    /// Pause between two looks.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = str::parse::<Span>)]
    interval: Span,
    /// Look once, and end.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

fn by() -> impl clap::builder::TypedValueParser<Value = TopBy> {
    let words = TopBy::ALL.iter().map(|by| by.as_str());
    PossibleValuesParser::new(words).try_map(|word| word.parse::<TopBy>())
}

impl PoolCommand {
    /// Runs it.
    ///
    /// # Errors
    /// If the server does not answer, or refuses the operator.
    pub async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let Self::Top(args) = self;
        if args.interval.0 < SHORTEST {
            return Err(Usage(format!("--interval is at least {SHORTEST:?}")).into());
        }
        let mut remote = args.remote.open(context)?;
        // Before there is a screen, and Ctrl-C is ours: somebody may be asked for a code.
        remote.log_in().await?;
        let stop = stop_signal()?;
        let done = tokio::select! {
            done = args.look(context, &mut remote) => done,
            () = stop => Ok(()),
        };
        remote.log_out().await;
        done
    }
}

impl TopArgs {
    async fn look(&self, context: &Context, remote: &mut Remote) -> anyhow::Result<()> {
        let screen = Screen::open(!self.once && context.output == Output::Table)?;
        let (mut rates, mut limit) = (Rates::default(), self.limit);
        loop {
            let path = format!("/api/v1/admin/pools?by={}&limit={limit}", self.by);
            match remote.get(&path).await {
                Ok(mut pools) => {
                    rates.add(&mut pools, Instant::now());
                    rates::sort(&mut pools, self.by, self.limit.into());
                    if !screen.show(&self.text(context, &pools)?)? || self.once {
                        return Ok(());
                    }
                    // Who stands out now may not be who has stood out since the start.
                    limit = MOST_TENANTS as u16;
                }
                Err(error) if rates.is_begun() && !error.is::<Refused>() => {
                    context.progress(&format!("{error:#}; asking again"))
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(self.interval.0).await;
        }
    }

    fn text(&self, context: &Context, pools: &Value) -> anyhow::Result<String> {
        Ok(match context.output {
            Output::Table => table::text(pools),
            Output::Json if self.once => serde_json::to_string_pretty(pools)?,
            // One line for each look.
            Output::Json => serde_json::to_string(pools)?,
        })
    }
}
