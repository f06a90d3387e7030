//! `tenantry operator`: people who run the installation.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::{Context, Refused, Usage};
use crate::config::secret_file;
use crate::control::operators::{self, OperatorRecord, OperatorRole, Operators};
use crate::error::{ApiError, Code};
use crate::http::Node;
use crate::kernel::crypto::random;

/// What to do with operators.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Add an operator; prints a generated password once, unless one is given.
    #[command(after_help = "Example:\n  tenantry operator create --email ada@example.com")]
    Create(CreateArgs),
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
                let rows =
                    listed.iter().map(|o| vec![o.email.clone(), o.role.to_string(), status(o), o.id.to_string()]);
                context.print(&listed, &["email", "role", "status", "id"], rows)
            }
            Self::Disable { email } => {
                let Some(email) = operators::email_key(email) else { return Err(bad_email()) };
                context.confirm(&format!("Disabling {email} ends their sessions"))?;
                let control = context.control()?;
                let now = control.clock.now();
                let done = control.db.transaction(async move |conn| operators::disable(conn, &email, now).await).await;
                let disabled = done.map_err(|error| refused(error, "see `tenantry operator list`"))?;
                context.print_one(&disabled, &[("email", disabled.email.clone()), ("status", status(&disabled))])
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
    let created =
        Operators::create(&node.control, &node.passwords, &args.email, password.clone(), OperatorRole::Admin).await;
    let operator = created.map_err(|error| refused(error, "choose another e-mail address or password"))?;
    let shown = generated.then(|| password.expose_secret().to_owned());
    let mut value = json!({"id": operator.id, "email": operator.email, "role": operator.role});
    let mut fields = vec![("email", operator.email.clone()), ("role", operator.role.to_string())];
    if let Some(password) = shown {
        value["password"] = json!(password);
        fields.push(("password", password));
    }
    context.print_one(&value, &fields)
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
        Code::AlreadyExists | Code::NotFound => Refused::new(error.client_detail(), remedy).into(),
        Code::ValidationFailed => {
            let faults: Vec<_> = error.fields().iter().map(|f| format!("{}: {}", f.field, f.message)).collect();
            Usage(faults.join("; ")).into()
        }
        _ => error.into(),
    }
}
