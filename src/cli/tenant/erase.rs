//! `tenant erase`.

use std::path::PathBuf;

use clap::Args;

use super::make::HaltArgs;
use super::{explain, fleet, text_file};
use crate::cli::progress::Bar;
use crate::cli::{Context, Refused};
use crate::fleet::erase::SignedCertificate;

/// Options of `tenant erase`.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// Slug or id; also of a tenant that was deleted and has backups.
    #[arg(value_name = "SLUG", required_unless_present = "check")]
    tenant: Option<String>,
    /// File to write the signed certificate of erasure to; it must not be there yet.
    #[arg(long, value_name = "FILE", required_unless_present = "check")]
    certificate: Option<PathBuf>,
    /// Check a certificate instead: whether this installation signed it, and nothing of it was changed since.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tenant", "certificate"])]
    check: Option<PathBuf>,
    #[command(flatten)]
    halt: HaltArgs,
}

pub(super) async fn erase(context: &Context, args: &EraseArgs) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    if let Some(path) = &args.check {
        let signed = fleet.check_certificate(&text_file(path)?).await.map_err(explain)?;
        return print(context, &signed);
    }
    let (Some(tenant), Some(path)) = (&args.tenant, &args.certificate) else { return Ok(()) };
    // Seen before anything is erased: afterwards there is no second chance to look for a better place.
    let unwritable = |error: std::io::Error| {
        let remedy = "name a file that is not there yet, in a directory that you can write to";
        Refused::new(format!("cannot write {}: {error}", path.display()), remedy)
    };
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(unwritable)?;
    if file.metadata()?.len() > 0 {
        return Err(unwritable(std::io::ErrorKind::AlreadyExists.into()).into());
    }
    let erased = async {
        context.confirm(&format!("Erasing tenant '{tenant}' with its data, backups and keys, for ever"))?;
        fleet.erase(tenant, &args.halt.options(), &Bar::new()).await.map_err(explain)
    };
    let erased = erased.await.inspect_err(|_| {
        // It is ours, and empty.
        let _ = std::fs::remove_file(path);
    })?;
    let text = serde_json::to_string_pretty(&erased.certificate)?;
    std::io::Write::write_all(&mut file, format!("{text}\n").as_bytes())?;
    file.sync_all()?;
    print(context, &erased.certificate)
}

fn print(context: &Context, signed: &SignedCertificate) -> anyhow::Result<()> {
    let certificate = &signed.certificate;
    let fields = [
        ("tenant", certificate.tenant.to_string()),
        ("slug", certificate.slug.to_string()),
        ("databases", certificate.databases.join(", ")),
        ("backups", certificate.backups.len().to_string()),
        ("objects", certificate.objects.to_string()),
        ("erasedAt", certificate.erased_at.to_rfc3339()),
        ("signedBy", signed.signature.key_id.to_string()),
    ];
    context.print_one(signed, &fields)
}
