//! `fleet migrate`.

use clap::Args;
use clap::builder::RangedU64ValueParser;

use crate::cli::progress::Bar;
use crate::cli::spans::{bound, wait};
use crate::cli::tenant::{HaltArgs, explain, fleet};
use crate::cli::{Context, Output, Partial};
use crate::config::Span;
use crate::fleet::migrate::{DryRun, RunOutcome};
use crate::fleet::{MigrateFleet, MigrationReport};
use crate::kernel::Slug;

/// Options of `fleet migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Say what would be done: per tenant what it lacks, per migration what it locks. No tenant's database is touched.
    #[arg(long)]
    dry_run: bool,
    /// So many tenants go first, and are watched where there is traffic; if all that are asked for fail, nobody else has a
    /// turn [default: one in a hundred].
    #[arg(long, value_name = "N")]
    canary: Option<usize>,
    /// Tenants of a wave.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = from_one())]
    wave: usize,
    /// Tenants of one cluster that are migrated at the same time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = from_one())]
    concurrency: usize,
    /// These tenants alone.
    #[arg(long, value_name = "SLUG,…", value_delimiter = ',')]
    only: Vec<Slug>,
    /// How long a statement waits for a lock; the tenant is then put aside and tried again later.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = bound)]
    lock_timeout: Span,
    /// How long a statement may take; what runs outside of a transaction has no bound.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = bound)]
    statement_timeout: Span,
    /// Stop when so many tenants have failed [default: one in ten, at least ten].
    #[arg(long, value_name = "N", value_parser = from_one())]
    max_failures: Option<usize>,
    /// How long the canary is watched at most, where there is traffic.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = wait)]
    soak: Span,
    #[command(flatten)]
    halt: HaltArgs,
}

fn from_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

pub(super) async fn run(context: &Context, args: &MigrateArgs) -> anyhow::Result<()> {
    let wanted = MigrateFleet {
        canary: args.canary,
        wave: args.wave,
        concurrency: args.concurrency,
        only: args.only.clone(),
        lock_timeout: args.lock_timeout.0,
        statement_timeout: args.statement_timeout.0,
        max_failures: args.max_failures,
        soak: args.soak.0,
    };
    let fleet = fleet(context)?;
    if args.dry_run {
        return plan(context, &fleet.plan_migration(&wanted).await.map_err(explain)?);
    }
    let report = {
        let bar = Bar::new();
        fleet.migrate(&wanted, &args.halt.options(), &bar).await.map_err(explain)?
    };
    print(context, &report)
}

fn print(context: &Context, report: &MigrationReport) -> anyhow::Result<()> {
    let fields = [
        ("runId", report.run_id.to_string()),
        ("state", report.state.to_string()),
        ("reason", report.reason.clone().unwrap_or_else(|| "-".into())),
        ("total", report.total.to_string()),
        ("migrated", report.migrated.to_string()),
        ("skipped", report.skipped.to_string()),
        ("pending", report.pending.to_string()),
        ("failed", report.failed.len().to_string()),
        ("tenantsPerSecond", report.tenants_per_second.to_string()),
        ("durationMs", report.duration_ms.to_string()),
    ];
    context.print_one(report, &fields)?;
    if context.output == Output::Table {
        for failed in &report.failed {
            context.say(&format!("failed  {}: {}", failed.slug, failed.error))?;
        }
    }
    match (report.state, &report.reason) {
        (RunOutcome::Done, _) => Ok(()),
        (_, Some(reason)) => Err(Partial(format!("the run stopped: {reason}")).into()),
        (_, None) => {
            let said = "`tenantry fleet migrate` tries them again";
            Err(Partial(format!("{} of {} tenants failed; {said}", report.failed.len(), report.total)).into())
        }
    }
}

fn plan(context: &Context, plan: &DryRun) -> anyhow::Result<()> {
    if context.output == Output::Json {
        context.say(&serde_json::to_string_pretty(plan)?)?;
    } else {
        context.say(&format!(
            "to schema V{}, operator's V{}: {} tenants of {}, {} are there",
            plan.head.schema_version,
            plan.head.operator_version,
            plan.tenants.len(),
            plan.total,
            plan.skipped
        ))?;
        for migration in &plan.migrations {
            let whose = if migration.operator { "operator" } else { "built-in" };
            context.say(&format!("{} ({whose}, {} tenants)", migration.migration, migration.tenants))?;
            if !migration.transaction {
                context.say("    runs outside of a transaction")?;
            }
            for lock in &migration.locks {
                context.say(&format!("    {} on {}", lock.mode, lock.relation))?;
            }
            if let Some(error) = &migration.error {
                context.say(&format!("    fails: {error}"))?;
            }
        }
        for tenant in &plan.tenants {
            context.say(&format!("{}: {}", tenant.slug, tenant.migrations.join(", ")))?;
        }
    }
    match plan.migrations.iter().find(|migration| migration.error.is_some()) {
        Some(broken) => Err(Partial(format!("{} fails in an empty database", broken.migration)).into()),
        None => Ok(()),
    }
}
