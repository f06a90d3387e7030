//! `tenant create` and `tenant attach`.

use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::ExposeSecret as _;

use super::{explain, fleet, secret_file, text_file};
use crate::cli::progress::Bar;
use crate::cli::{Context, Refused, Usage};
use crate::fleet::view::ProvisionedView;
use crate::fleet::{AdminPassword, AttachTenant, CreateTenant, FirstAdmin, Halt, OperationOptions, Provisioned};
use crate::kernel::Slug;
use crate::router::{Registration, Target, TlsMode, TlsPolicy};

/// The first administrator.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// E-mail of the first administrator; without a password file a password is made and printed once.
    #[arg(long, value_name = "EMAIL")]
    admin_email: Option<String>,
    /// File with that administrator's password.
    #[arg(long, value_name = "FILE", requires = "admin_email")]
    admin_password_file: Option<PathBuf>,
}

impl AdminArgs {
    pub(super) fn read(&self) -> anyhow::Result<Option<FirstAdmin>> {
        let Some(email) = self.admin_email.clone() else { return Ok(None) };
        let password = match &self.admin_password_file {
            Some(path) => AdminPassword::Given(secret_file(path)?),
            None => AdminPassword::Generate,
        };
        Ok(Some(FirstAdmin { email, password, first_name: String::new(), last_name: String::new() }))
    }
}

/// Where a test lets the process die.
#[derive(Debug, Args)]
pub struct HaltArgs {
    #[arg(long, hide = true, value_name = "STEP")]
    halt_after: Option<String>,
    #[arg(long, hide = true, requires = "halt_after")]
    halt_before_journal: bool,
}

impl HaltArgs {
    pub(in crate::cli) fn options(&self) -> OperationOptions {
        let before_journal = self.halt_before_journal;
        let halt = self.halt_after.clone().map(|after| Halt { after, before_journal });
        OperationOptions::halting(halt)
    }
}

/// Options of `tenant create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Public name: 3 to 48 of a-z, 0-9 and '-', beginning with a letter and not ending with '-'.
    slug: Slug,
    /// Display name [default: the slug].
    #[arg(long)]
    name: Option<String>,
    /// Cluster to place it on [default: the least loaded one].
    #[arg(long)]
    cluster: Option<String>,
    /// Region its cluster must stand in.
    #[arg(long)]
    region: Option<String>,
    /// Name of its plan.
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    /// Who may register: open, invite or closed [default: invite].
    #[arg(long)]
    registration: Option<Registration>,
    /// Ceiling of its connections [default: router.tenant_max_connections].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    max_connections: Option<i32>,
    /// Return at once; a worker makes the tenant, unless the stock has one. With a first administrator, whose password is kept nowhere for a worker, the stock must have one.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    halt: HaltArgs,
}

/// TLS towards a server.
#[derive(Debug, Args)]
pub struct TlsArgs {
    /// What the server has to prove: disable, require, verify-ca or verify-full [default: the sslmode in its URL, or
    /// verify-full].
    #[arg(long)]
    tls_mode: Option<TlsMode>,
    /// PEM of the CAs to trust [default: the system's].
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM of our client certificate.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// PEM of its private key.
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

impl TlsArgs {
    /// The database whose URL is in a file.
    pub(in crate::cli) fn target(&self, file: &Path) -> anyhow::Result<Target> {
        let mut target = Target::parse_named(&secret_file(file)?, self.tls_mode).map_err(|error| {
            let remedy = "write it as postgres://user:password@host:5432/database";
            Refused::new(format!("the URL in {} cannot be used: {error}", file.display()), remedy)
        })?;
        target.tls = TlsPolicy {
            mode: target.tls.mode,
            ca: self.ca_file.as_deref().map(text_file).transpose()?,
            client_cert: self.client_cert.as_deref().map(text_file).transpose()?,
            client_key: self.client_key.as_deref().map(text_file).transpose()?.map(Into::into),
        };
        Ok(target)
    }

    /// A database as requests reach it, and as its own server does; the registry has one TLS mode for both.
    pub(super) fn targets(&self, file: &Path, direct: Option<&Path>) -> anyhow::Result<(Target, Option<Target>)> {
        let target = self.target(file)?;
        let direct = direct.map(|file| self.target(file)).transpose()?;
        if let Some(other) = direct.as_ref().map(|direct| direct.tls.mode).filter(|mode| *mode != target.tls.mode) {
            let what = format!("the two URLs ask for different TLS modes, '{}' and '{other}'", target.tls.mode);
            return Err(Refused::new(what, "write the same sslmode into both, or into none of them").into());
        }
        Ok((target, direct))
    }

    /// Without a URL, the option `flag`, these would change nothing.
    ///
    /// # Errors
    /// [`Usage`] if any is given, and the URL is not.
    pub(in crate::cli) fn go_with(&self, flag: &str, url: Option<&Path>) -> Result<(), Usage> {
        let files = [&self.ca_file, &self.client_cert, &self.client_key];
        if url.is_some() || self.tls_mode.is_none() && files.iter().all(|file| file.is_none()) {
            return Ok(());
        }
        Err(Usage(format!("--tls-mode, --ca-file, --client-cert and --client-key go with {flag}")))
    }
}

/// Options of `tenant attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Public name: 3 to 48 of a-z, 0-9 and '-', beginning with a letter and not ending with '-'.
    slug: Slug,
    /// File with the database's URL, as requests reach it.
    #[arg(long, value_name = "FILE")]
    database_url_file: PathBuf,
    /// File with the server's own URL, where a pooler stands in between.
    #[arg(long, value_name = "FILE")]
    direct_url_file: Option<PathBuf>,
    /// Display name [default: the slug].
    #[arg(long)]
    name: Option<String>,
    /// Who may register: open, invite or closed [default: invite].
    #[arg(long)]
    registration: Option<Registration>,
    /// Ceiling of its connections [default: router.tenant_max_connections].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    max_connections: Option<i32>,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    halt: HaltArgs,
}

pub(super) async fn create(context: &Context, args: &CreateArgs) -> anyhow::Result<()> {
    let wanted = CreateTenant {
        slug: args.slug.clone(),
        name: args.name.clone(),
        cluster: args.cluster.clone(),
        region: args.region.clone(),
        plan: args.plan.clone(),
        registration: args.registration,
        max_connections: args.max_connections,
        admin: args.admin.read()?,
    };
    if args.no_wait {
        let fleet = fleet(context)?;
        let made = if wanted.admin.is_some() {
            fleet.create_from_stock(&wanted).await.map_err(explain)?
        } else {
            let tenant = fleet.create_later(&wanted).await.map_err(explain)?;
            Provisioned { tenant, steps: Vec::new(), admin_password: None, first_session: None }
        };
        return print(context, made);
    }
    let made = fleet(context)?.create(&wanted, &args.halt.options(), &Bar::new()).await.map_err(explain)?;
    print(context, made)
}

pub(super) async fn attach(context: &Context, args: &AttachArgs) -> anyhow::Result<()> {
    let (url, direct_url) = args.tls.targets(&args.database_url_file, args.direct_url_file.as_deref())?;
    let wanted = AttachTenant {
        slug: args.slug.clone(),
        name: args.name.clone(),
        url,
        direct_url,
        registration: args.registration,
        max_connections: args.max_connections,
        admin: args.admin.read()?,
    };
    let made = fleet(context)?.attach(&wanted, &args.halt.options(), &Bar::new()).await.map_err(explain)?;
    print(context, made)
}

pub(super) fn print(context: &Context, made: Provisioned) -> anyhow::Result<()> {
    let view = ProvisionedView::from(made);
    let mut fields = super::manage::fields(&view.tenant);
    let total: i64 = view.steps.iter().map(|step| step.ms).sum();
    fields.push(("steps", format!("{} in {total} ms", view.steps.len())));
    if let Some(password) = &view.admin_password {
        fields.push(("adminPassword", format!("{} (shown this once)", password.expose_secret())));
    }
    context.print_one(&view, &fields)
}
