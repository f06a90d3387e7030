//! `tenantry tenant`: making, adopting, watching and deleting tenants.

mod backup;
mod copies;
mod erase;
mod issuers;
mod kept;
mod keys;
mod make;
mod manage;
mod psql;
mod relocate;
mod rotate;
mod signups;
mod token;

use clap::Subcommand;

pub use backup::{BackupArgs, RestoreArgs};
pub use copies::{CloneArgs, ExportArgs};
pub use erase::EraseArgs;
pub use issuers::IssuersCommand;
pub use kept::KeptArgs;
pub use keys::RotateKeysArgs;
pub use make::{AttachArgs, CreateArgs, HaltArgs, TlsArgs};
pub(super) use manage::or_default;
pub use manage::{DeleteArgs, ListArgs, SetArgs};
pub use psql::PsqlArgs;
pub use relocate::MoveArgs;
pub use rotate::RotateArgs;
pub use signups::SignUpsCommand;
pub use token::TokenArgs;

use super::{Context, Refused};
use crate::error::{ApiError, Code};
use crate::fleet::Fleet;
use crate::http::Node;

/// What to do with tenants.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Makes a tenant: role, database, schema, seed; prints each step. An interrupted one is gone on with.
    #[command(
        after_help = "Example:\n  tenantry tenant create hooli --name 'Hooli Inc' --admin-email gavin@hooli.example"
    )]
    Create(CreateArgs),
    /// Adopts a dedicated database, after looking at it.
    #[command(
        after_help = "Example:\n  tenantry tenant attach initech --database-url-file url --ca-file ca.pem --client-cert me.pem --client-key me.key"
    )]
    Attach(AttachArgs),
    /// Lists tenants.
    #[command(after_help = "Example:\n  tenantry tenant list --status suspended --output json")]
    List(ListArgs),
    /// Shows one tenant.
    #[command(after_help = "Example:\n  tenantry tenant show acme")]
    Show(Named),
    /// Changes a tenant.
    #[command(after_help = "Example:\n  tenantry tenant set acme --name 'Acme GmbH' --registration invite")]
    Set(SetArgs),
    /// Refuses a tenant's users, on every node within two seconds.
    #[command(after_help = "Example:\n  tenantry tenant suspend acme")]
    Suspend(Named),
    /// Serves a suspended tenant again.
    #[command(after_help = "Example:\n  tenantry tenant resume acme")]
    Resume(Named),
    /// Takes a tenant from its users; its database is kept for the grace period.
    #[command(after_help = "Example:\n  tenantry tenant archive acme")]
    Archive(Named),
    /// Gives an archived tenant back to its users; with --backup, restores a backup in place or as a new tenant.
    #[command(
        after_help = "Example:\n  tenantry tenant restore acme\n  tenantry tenant restore acme --backup 0198c0de-0000-7000-8000-000000000000 --as acme-may"
    )]
    Restore(RestoreArgs),
    /// Backs a tenant up to the storage, sealed with a key of its own; prints the backup's id.
    #[command(after_help = "Example:\n  tenantry tenant backup acme")]
    Backup(BackupArgs),
    /// Makes a new tenant from a live one, for staging; with --mask, without personal data.
    #[command(
        after_help = "Example:\n  tenantry tenant clone acme acme-staging --mask default --admin-email qa@example.com"
    )]
    Clone(CloneArgs),
    /// Writes a tenant's data in open formats: each table as NDJSON and CSV, with a manifest, without secrets.
    #[command(after_help = "Example:\n  tenantry tenant export acme --to acme-export")]
    Export(ExportArgs),
    /// Destroys a tenant's data, backups and keys for ever, and writes a signed certificate of it.
    #[command(
        after_help = "Example:\n  tenantry tenant erase acme --certificate acme-erased.json --yes\n  tenantry tenant erase --check acme-erased.json"
    )]
    Erase(EraseArgs),
    /// Lists a tenant's backups, the latest first.
    #[command(after_help = "Example:\n  tenantry tenant backups acme --output json")]
    Backups(Named),
    /// Archives a tenant and drops it after the grace period; an unfinished one at once.
    #[command(after_help = "Example:\n  tenantry tenant delete hooli --now --yes")]
    Delete(DeleteArgs),
    /// Gives a short-lived token of one of a tenant's people; noted, with the reason, in that tenant's audit.
    #[command(
        after_help = "Example:\n  tenantry tenant token acme --user ada@acme.example --reason 'ticket 4711: missing contacts'"
    )]
    Token(TokenArgs),
    /// Gives a tenant's role another password, or every tenant's; no request fails meanwhile.
    #[command(
        after_help = "Example:\n  tenantry tenant rotate-credentials acme\n  tenantry tenant rotate-credentials --all"
    )]
    RotateCredentials(RotateArgs),
    /// Gives a tenant another key to sign tokens with: published at once, signing two minutes later; no token is refused.
    #[command(
        after_help = "Examples:\n  tenantry tenant rotate-keys acme --algorithm ES256\n  tenantry tenant rotate-keys acme --compromised"
    )]
    RotateKeys(RotateKeysArgs),
    /// Moves a tenant to another cluster; its requests wait meanwhile and do not fail. Again, it resumes.
    #[command(
        after_help = "Examples:\n  tenantry tenant move acme --to eu-2\n  tenantry tenant move acme --confirm --yes"
    )]
    Move(MoveArgs),
    /// Lists the databases that moves and restores have left, and when each goes; with --drop, drops a tenant's now.
    #[command(after_help = "Examples:\n  tenantry tenant kept\n  tenantry tenant kept acme --drop --yes")]
    Kept(KeptArgs),
    /// Whose access tokens a tenant takes besides its own.
    #[command(subcommand)]
    Issuers(IssuersCommand),
    /// Who waits for a tenant of their own, where operators decide about sign-ups.
    #[command(subcommand)]
    Signups(SignUpsCommand),
    /// Opens psql on a tenant's database, as its own role.
    #[command(after_help = "Example:\n  tenantry tenant psql acme -- -c 'SELECT count(*) FROM contacts'")]
    Psql(PsqlArgs),
}

/// A tenant.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// Slug or id.
    #[arg(value_name = "SLUG")]
    tenant: String,
}

/// Runs one of them.
///
/// # Errors
/// [`Refused`] for an unmet precondition; else what failed.
pub async fn run(context: &Context, command: &TenantCommand) -> anyhow::Result<()> {
    match command {
        TenantCommand::Create(args) => make::create(context, args).await,
        TenantCommand::Attach(args) => make::attach(context, args).await,
        TenantCommand::List(args) => manage::list(context, args).await,
        TenantCommand::Show(named) => manage::show(context, &named.tenant).await,
        TenantCommand::Set(args) => manage::set(context, args).await,
        TenantCommand::Suspend(named) => manage::suspend(context, &named.tenant).await,
        TenantCommand::Resume(named) => manage::resume(context, &named.tenant).await,
        TenantCommand::Archive(named) => manage::archive(context, &named.tenant).await,
        TenantCommand::Restore(args) => backup::restore(context, args).await,
        TenantCommand::Clone(args) => copies::clone(context, args).await,
        TenantCommand::Export(args) => copies::export(context, args).await,
        TenantCommand::Erase(args) => erase::erase(context, args).await,
        TenantCommand::Backup(args) => backup::backup(context, args).await,
        TenantCommand::Backups(named) => backup::backups(context, &named.tenant).await,
        TenantCommand::Delete(args) => manage::delete(context, args).await,
        TenantCommand::Token(args) => token::run(context, args).await,
        TenantCommand::RotateCredentials(args) => rotate::run(context, args).await,
        TenantCommand::RotateKeys(args) => keys::run(context, args).await,
        TenantCommand::Move(args) => relocate::run(context, args).await,
        TenantCommand::Kept(args) => kept::run(context, args).await,
        TenantCommand::Issuers(command) => issuers::run(context, command).await,
        TenantCommand::Signups(command) => signups::run(context, command).await,
        TenantCommand::Psql(args) => psql::run(context, args).await,
    }
}

/// The fleet of the configured installation.
pub(in crate::cli) fn fleet(context: &Context) -> anyhow::Result<Fleet> {
    Ok(Node::open(&context.config)?.fleet)
}

/// A refusal (exit 4) where the fault is the caller's or the state's, with its cause: operators may see it.
pub(in crate::cli) fn explain(error: ApiError) -> anyhow::Error {
    if error.code().status() >= 500 {
        return error.into();
    }
    let said = error.client_detail().trim_end_matches('.');
    // A remedy is a sentence of its own, or the end of the one there is.
    let parted = said.split_once(". ").or_else(|| said.rsplit_once("; "));
    let (what, remedy) = parted.unwrap_or_else(|| (said, fallback(error.code())));
    let fields =
        error.fields().iter().filter(|field| !error.client_detail().contains(field.message.trim_end_matches('.')));
    let fields: String =
        fields.map(|field| format!(" ({}: {})", field.field, field.message.trim_end_matches('.'))).collect();
    let cause = error.cause().map(|cause| format!(" ({:#})", Chain(cause))).unwrap_or_default();
    Refused::new(format!("{what}{fields}{cause}"), remedy).into()
}

/// What to do about a refusal that does not say so: where the table of codes speaks of requests, in terms of commands.
fn fallback(code: Code) -> &'static str {
    match code {
        Code::NotFound => "see `tenantry tenant list` and `tenantry cluster list`",
        Code::Conflict => "see `tenantry tenant show` or `tenantry cluster show`, and decide anew",
        Code::AlreadyExists | Code::ValidationFailed => "correct what is named, and run it again",
        code => code.fix().trim_end_matches('.'),
    }
}

struct Chain<'a>(&'a (dyn std::error::Error + Send + Sync));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

/// A file's one line, such as a password or a URL.
pub(super) fn secret_file(path: &std::path::Path) -> anyhow::Result<secrecy::SecretString> {
    let text = text_file(path)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned().into())
}

/// A file's text.
pub(super) fn text_file(path: &std::path::Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        Refused::new(format!("cannot read {}: {error}", path.display()), "give a file that you can read").into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_one_remedy() {
        let said = |error: ApiError| explain(error).to_string();
        let conflict = |detail: &'static str| said(ApiError::new(Code::Conflict).detail(detail));
        for (detail, line) in [
            (
                "Another process is working on this tenant; wait for it to end.",
                "Another process is working on this tenant; wait for it to end",
            ),
            (
                "No cluster has room for another tenant; add one with `tenantry cluster add`.",
                "No cluster has room for another tenant; add one with `tenantry cluster add`",
            ),
            (
                "The backup is not in the storage any more; nothing was restored. Choose another one.",
                "The backup is not in the storage any more; nothing was restored; Choose another one",
            ),
            (
                "Tenants live on it.",
                "Tenants live on it; see `tenantry tenant show` or `tenantry cluster show`, and decide anew",
            ),
        ] {
            assert_eq!(conflict(detail), line);
        }
        assert_eq!(
            said(ApiError::not_found("tenant")),
            "There is no such tenant; see `tenantry tenant list` and `tenantry cluster list`"
        );
        assert_eq!(
            said(ApiError::invalid_field("connectionBudget", "too_large", "The server has 100 connections.")),
            "Some fields are not valid (connectionBudget: The server has 100 connections); correct what is named, and run it \
             again"
        );
    }
}
