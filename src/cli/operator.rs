//! `tenantry operator`: people who run the installation.

use std::collections::BTreeSet;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::{Context, Refused, Usage};
use crate::config::secret_file;
use crate::control::operators::audit::{self, AuditFilter};
use crate::control::operators::{self, ManagedOperator, OperatorChanges, OperatorRecord, OperatorRole, Operators};
use crate::error::{ApiError, Code};
use crate::http::Node;
use crate::kernel::Slug;
use crate::kernel::crypto::random;
use crate::router::MainConn;

/// What to do with operators.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Add an operator; prints a generated password once, unless one is given.
    #[command(
        after_help = "Examples:\n  tenantry operator create --email ada@example.com\n  tenantry operator create --email cto@acme.example --role owner --tenants acme"
    )]
    Create(CreateArgs),
    /// Change what an operator may do, or let one in again.
    #[command(
        after_help = "Examples:\n  tenantry operator set --email ada@example.com --role support\n  tenantry operator set --email ada@example.com --reset-second-factor"
    )]
    Set(SetArgs),
    /// List operators.
    #[command(after_help = "Example:\n  tenantry operator list --output json")]
    List,
    /// Keep an operator out from now on, open sessions included.
    #[command(after_help = "Example:\n  tenantry operator disable --email ada@example.com --yes")]
    Disable {
        /// Whose access ends.
        #[arg(long)]
        email: String,
    },
    /// Show what operators did, over REST and on the command line, the latest first.
    #[command(after_help = "Example:\n  tenantry operator audit --limit 20 --output json")]
    Audit {
        /// Only of this actor: an address, or `cli:` and an account.
        #[arg(long)]
        actor: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
    },
}

/// Options of `operator create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Address to log in with.
    #[arg(long)]
    email: String,
    /// File that holds the password; one is generated without it.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// What they may do: admin (everything), support (see and tend tenants) or owner (tend some tenants).
    #[arg(long, default_value_t = OperatorRole::Admin)]
    role: OperatorRole,
    /// The tenants of an owner.
    #[arg(long, value_name = "SLUG,…", value_delimiter = ',')]
    tenants: Vec<Slug>,
}

/// Options of `operator set`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct SetArgs {
    /// Whom to change.
    #[arg(long)]
    email: String,
    /// What they may do: admin, support or owner.
    #[arg(long, group = "change")]
    role: Option<OperatorRole>,
    /// The tenants of an owner, instead of those before.
    #[arg(long, value_name = "SLUG,…", value_delimiter = ',', group = "change")]
    tenants: Option<Vec<Slug>>,
    /// Let them in again.
    #[arg(long, group = "change")]
    enable: bool,
    /// Take the second factor away, for whoever lost it.
    #[arg(long, group = "change")]
    reset_second_factor: bool,
}

impl OperatorCommand {
    /// Runs it.
    ///
    /// # Errors
    /// A taken or unknown address, a weak password, or a control plane that does not answer.
    pub async fn run(&self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::Create(args) => create(context, args).await,
            Self::List => {
                let listed = context.control()?.db.read(async |conn| operators::list(conn).await).await?;
                let rows = listed.iter().map(|ManagedOperator { operator: o, tenants }| {
                    let factor = if o.second_factor { "yes" } else { "no" };
                    let slugs = tenants.iter().map(Slug::as_str).collect::<Vec<_>>().join(",");
                    let tenants = if slugs.is_empty() { "-".to_owned() } else { slugs };
                    vec![o.email.clone(), o.role.to_string(), status(o), factor.into(), tenants, o.id.to_string()]
                });
                context.print(&listed, &["email", "role", "status", "secondFactor", "tenants", "id"], rows)
            }
            Self::Set(args) => set(context, args).await,
            Self::Audit { actor, limit } => {
                let filter = AuditFilter { actor: actor.clone(), limit: *limit, ..AuditFilter::default() };
                let control = context.control()?;
                let listed = control.db.read(async move |conn: &mut MainConn| audit::list(conn, &filter).await).await?;
                let rows = listed.iter().map(|a| {
                    let outcome = a.outcome.clone().unwrap_or_else(|| "-".into());
                    let target = a.target.clone().unwrap_or_default();
                    vec![a.at.to_rfc3339(), a.actor.clone(), a.action.clone(), target, outcome]
                });
                context.print(&listed, &["at", "actor", "action", "target", "outcome"], rows)
            }
            Self::Disable { email } => {
                let Some(email) = operators::email_key(email) else { return Err(bad_email()) };
                context.confirm(&format!("Disabling {email} ends their sessions"))?;
                let control = context.control()?;
                let now = control.clock.now();
                let done = control
                    .db
                    .transaction(async move |conn: &mut MainConn| {
                        let id = operators::find_by_email(conn, &email).await?.id;
                        let changes = OperatorChanges { disabled: Some(true), ..OperatorChanges::default() };
                        let changed = operators::change(conn, id, &changes, now).await?;
                        operators::with_tenants(conn, changed).await
                    })
                    .await;
                let disabled = done.map_err(|error| refused(error, "see `tenantry operator list`"))?;
                let fields = [("email", disabled.operator.email.clone()), ("status", status(&disabled.operator))];
                context.print_one(&disabled, &fields)
            }
        }
    }
}

async fn create(context: &Context, args: &CreateArgs) -> anyhow::Result<()> {
    if operators::email_key(&args.email).is_none() {
        return Err(bad_email());
    }
    let given = args.password_file.as_deref().map(|path| secret_file("--password-file", path)).transpose()?;
    let generated = given.is_none();
    let password = given.unwrap_or_else(|| SecretString::from(BASE64URL.encode(random::<18>())));
    let node = Node::open(&context.config)?;
    let slugs = args.tenants.clone();
    let given = node.control.db.read(async move |conn: &mut MainConn| operators::named(conn, &slugs).await).await;
    let given = given.map_err(|error| refused(error, "see `tenantry tenant list`"))?;
    let (control, passwords) = (&node.control, &node.passwords);
    let created = Operators::create(control, passwords, &args.email, password.clone(), args.role, given).await;
    let operator = created.map_err(|error| refused(error, "choose another e-mail address or password"))?;
    let shown = generated.then(|| password.expose_secret().to_owned());
    let mut fields = vec![("email", operator.email.clone()), ("role", operator.role.to_string())];
    // Asked of nobody: the password is told now or never.
    let tenants = args.tenants.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    let mut value = serde_json::to_value(ManagedOperator { operator, tenants })?;
    if let Some(password) = shown {
        value["password"] = json!(password);
        fields.push(("password", password));
    }
    context.print_one(&value, &fields)
}

async fn set(context: &Context, args: &SetArgs) -> anyhow::Result<()> {
    let Some(email) = operators::email_key(&args.email) else { return Err(bad_email()) };
    let control = context.control()?;
    let now = control.clock.now();
    let (role, slugs) = (args.role, args.tenants.clone());
    let (enable, reset_second_factor) = (args.enable, args.reset_second_factor);
    let changed = control
        .db
        .transaction(async move |conn: &mut MainConn| {
            let id = operators::find_by_email(conn, &email).await?.id;
            let tenants = match &slugs {
                Some(slugs) => Some(operators::named(conn, slugs).await?),
                None => None,
            };
            let disabled = enable.then_some(false);
            let changes = OperatorChanges { role, tenants, disabled, reset_second_factor };
            let changed = operators::change(conn, id, &changes, now).await?;
            operators::with_tenants(conn, changed).await
        })
        .await;
    let changed = changed.map_err(|error| refused(error, "see `tenantry operator list` and `tenantry tenant list`"))?;
    let operator = &changed.operator;
    let fields = [("email", operator.email.clone()), ("role", operator.role.to_string()), ("status", status(operator))];
    context.print_one(&changed, &fields)
}

fn status(operator: &OperatorRecord) -> String {
    if operator.disabled_at.is_some() { "disabled" } else { "active" }.to_owned()
}

fn bad_email() -> anyhow::Error {
    Usage("--email is not an e-mail address".into()).into()
}

/// What the caller can mend is a refusal; the rest is a failure.
fn refused(error: ApiError, remedy: &str) -> anyhow::Error {
    match error.code() {
        Code::AlreadyExists | Code::NotFound | Code::Conflict => Refused::new(error.client_detail(), remedy).into(),
        Code::ValidationFailed => {
            let faults: Vec<_> = error.fields().iter().map(|f| format!("{}: {}", f.field, f.message)).collect();
            Usage(faults.join("; ")).into()
        }
        _ => error.into(),
    }
}
