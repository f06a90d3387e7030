//! `tenant erase`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::make::HaltArgs;
use super::{explain, fleet, text_file};
use crate::cli::progress::Bar;
use crate::cli::{Context, Refused};
use crate::fleet::erase::SignedCertificate;

/// What stands in the file until the certificate does: by it, the command that goes on knows its own.
const BEGUN: &str = "An erasure has begun. Its certificate will stand here; the same command goes on with it.\n";

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
    let unwritable = |error: io::Error| {
        let remedy = "name a file that is not there yet, in a directory that you can write to";
        Refused::new(format!("cannot write {}: {error}", path.display()), remedy)
    };
    let (mut file, is_new) = claim(path).map_err(unwritable)?;
    let erased = async {
        context.confirm(&format!("Erasing tenant '{tenant}' with its data, backups and keys, for ever"))?;
        fleet.erase(tenant, &args.halt.options(), &Bar::new()).await.map_err(explain)
    };
    let erased = erased.await.inspect_err(|_| {
        // What was there before may be that of a command that is at work.
        if is_new {
            let _ = fs::remove_file(path);
        }
    })?;
    let text = serde_json::to_string_pretty(&erased.certificate)?;
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(format!("{text}\n").as_bytes())?;
    file.sync_all()?;
    print(context, &erased.certificate)
}

/// The file for a certificate: made now, or left by an erasure that was interrupted. Any other that is there, an empty one
/// too, is somebody else's. And whether it was made now.
fn claim(path: &Path) -> io::Result<(File, bool)> {
    let error = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => {
            return file.write_all(BEGUN.as_bytes()).map(|()| (file, true)).inspect_err(|_| {
                let _ = fs::remove_file(path);
            });
        }
        Err(error) => error,
    };
    if error.kind() != io::ErrorKind::AlreadyExists || !path.symlink_metadata()?.is_file() {
        return Err(error);
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut text = Vec::new();
    io::Read::by_ref(&mut file).take(BEGUN.len() as u64 + 1).read_to_end(&mut text)?;
    if text == BEGUN.as_bytes() { Ok((file, false)) } else { Err(error) }
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
