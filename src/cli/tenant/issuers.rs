//! `tenant issuers`: whose access tokens a tenant takes besides its own. Asked of a running server, which keeps the rules.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::secret_file;
use crate::cli::Context;
use crate::cli::remote::RemoteArgs;
use crate::kernel::TokenIssuerId;

/// What to do with them.
#[derive(Debug, Subcommand)]
pub enum IssuersCommand {
    /// Lists them, by name.
    #[command(after_help = "Example:\n  tenantry tenant issuers list acme --output json")]
    List(ListIssuersArgs),
    /// Registers one: its keys at an address, or a secret that is shared with it.
    #[command(
        after_help = "Examples:\n  tenantry tenant issuers add acme --name 'Old login' --issuer https://id.example.com --audience tenantry --jwks-url https://id.example.com/jwks.json --match-by email\n  tenantry tenant issuers add acme --name Batch --issuer batch --audience tenantry --secret-file secret --match-by user_id"
    )]
    Add(Box<AddIssuerArgs>),
    /// Removes one: its tokens are taken no more.
    #[command(
        after_help = "Example:\n  tenantry tenant issuers remove acme 01890000-0000-7000-8000-000000000000 --yes"
    )]
    Remove(RemoveIssuerArgs),
}

/// Options of `tenant issuers list`.
#[derive(Debug, Args)]
pub struct ListIssuersArgs {
    /// Slug or id.
    #[arg(value_name = "SLUG")]
    tenant: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Options of `tenant issuers add`.
#[derive(Debug, Args)]
pub struct AddIssuerArgs {
    /// Slug or id.
    #[arg(value_name = "SLUG")]
    tenant: String,
    /// What it is called.
    #[arg(long)]
    name: String,
    /// The `iss` of its tokens, to the letter.
    #[arg(long)]
    issuer: String,
    /// The `aud` that its tokens have for us.
    #[arg(long)]
    audience: String,
    /// Where its public keys are.
    #[arg(long, value_name = "URL", required_unless_present = "secret_file", conflicts_with = "secret_file")]
    jwks_url: Option<String>,
    /// File with a secret shared with it, of 32 to 1,024 bytes.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// By what its subjects are known: subject, email or user_id.
    #[arg(long, value_parser = ["subject", "email", "user_id"])]
    match_by: String,
    /// The claim whose words stand for roles; without one, bearers have their own.
    #[arg(long, value_name = "CLAIM")]
    roles_claim: Option<String>,
    /// A word of that claim, and the role that it stands for; again for more.
    #[arg(long = "role", value_name = "WORD=ROLE", value_parser = role)]
    roles: Vec<(String, String)>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Options of `tenant issuers remove`.
#[derive(Debug, Args)]
pub struct RemoveIssuerArgs {
    /// Slug or id.
    #[arg(value_name = "SLUG")]
    tenant: String,
    /// Its id, as `list` shows it.
    #[arg(value_name = "ID")]
    issuer: TokenIssuerId,
    #[command(flatten)]
    remote: RemoteArgs,
}

fn role(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(word, role)| !word.is_empty() && !role.is_empty());
    pair.map(|(word, role)| (word.to_owned(), role.to_owned())).ok_or_else(|| "write it as WORD=ROLE".to_owned())
}

/// Part of an address; a slug or an id has nothing to be escaped.
fn path(tenant: &str) -> anyhow::Result<String> {
    if tenant.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Ok(format!("/api/v1/admin/tenants/{tenant}/token-issuers"));
    }
    Err(crate::cli::Usage(format!("'{tenant}' is neither a slug nor an id")).into())
}

pub(super) async fn run(context: &Context, command: &IssuersCommand) -> anyhow::Result<()> {
    match command {
        IssuersCommand::List(args) => {
            // All of them: a tenant has fifty at most.
            let path = format!("{}?pageSize=100", path(&args.tenant)?);
            let listed = ask(context, &args.remote, (Method::GET, path), None).await?;
            print(context, &listed)
        }
        IssuersCommand::Add(args) => {
            let secret = args.secret_file.as_deref().map(secret_file).transpose()?;
            let roles = args.roles.iter().map(|(word, role)| json!({"word": word, "role": role}));
            let body = json!({
                "name": args.name, "issuer": args.issuer, "audience": args.audience, "jwksUrl": args.jwks_url,
                "secret": secret.as_ref().map(|secret| secret.expose_secret()), "matchBy": args.match_by,
                "rolesClaim": args.roles_claim, "roles": roles.collect::<Vec<_>>(),
            });
            let made = ask(context, &args.remote, (Method::POST, path(&args.tenant)?), Some(body)).await?;
            let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
            context.print_one(&made, &[("id", text("id")), ("name", text("name")), ("issuer", text("issuer"))])
        }
        IssuersCommand::Remove(args) => {
            context.confirm(&format!("Tokens of issuer {} are taken no more", args.issuer))?;
            let path = format!("{}/{}", path(&args.tenant)?, args.issuer);
            ask(context, &args.remote, (Method::DELETE, path), None).await?;
            context.progress(&format!("{} is removed", args.issuer));
            Ok(())
        }
    }
}

async fn ask(
    context: &Context,
    remote: &RemoteArgs,
    (method, path): (Method, String),
    body: Option<Value>,
) -> anyhow::Result<Value> {
    let mut server = remote.open(context)?;
    let answer = server.ask(method, &path, body).await;
    server.log_out().await;
    answer
}

fn print(context: &Context, listed: &Value) -> anyhow::Result<()> {
    let text = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
    let rows = listed.as_array().into_iter().flatten().map(|one| {
        let enabled = if one["enabled"] == true { "yes" } else { "no" }.to_owned();
        vec![text(one, "id"), text(one, "name"), text(one, "issuer"), text(one, "matchBy"), enabled]
    });
    context.print(listed, &["id", "name", "issuer", "matchBy", "enabled"], rows)
}
