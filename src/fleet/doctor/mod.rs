//! The doctor: what is broken or left over in the fleet, and the command that mends each.

mod installation;
mod journal;
mod kept;
mod orphans;
mod secrets;
mod server;
mod slots;
mod tenants;

pub use installation::{Check, Installed};

use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::Fleet;
use super::migrations::Migrations;
use crate::control::tenants::{TenantFilter, TenantRecord};
use crate::control::{self, clusters};
use crate::error::ApiResult;
use crate::router::MainConn;
use crate::router::tenant::words;

/// Clusters that are looked at at the same time.
const AT_ONCE: usize = 4;

words! {
    /// How bad a finding is.
    Severity {
        /// Somebody is not served, or could be served wrongly.
        Error = "error",
        /// Something is left over, or will become an error.
        Warning = "warning",
    }
}

/// Something that should not be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing, as one stable word.
    #[schema(value_type = String, example = "orphan_database")]
    pub code: &'static str,
    /// What it is about: a tenant's slug, a cluster's or database's name, a job's id.
    pub subject: String,
    /// What was seen.
    pub said: String,
    /// The command that mends it.
    pub remedy: String,
}

impl Finding {
    /// Somebody is not served, or could be served wrongly.
    pub fn error(
        code: &'static str,
        subject: impl ToString,
        said: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (subject, said, remedy) = (subject.to_string(), said.into(), remedy.into());
        Self { severity: Severity::Error, code, subject, said, remedy }
    }

    /// Something is left over, or will become an error.
    pub fn warning(
        code: &'static str,
        subject: impl ToString,
        said: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, subject, said, remedy) }
    }
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default, Serialize, utoipa::ToSchema)]
pub struct Diagnosis {
    /// The worst first.
    pub findings: Vec<Finding>,
    /// How many tenants were looked at.
    pub tenants: usize,
    /// How many clusters were looked at.
    pub clusters: usize,
}

impl Fleet {
    /// Looks at the whole fleet: at every cluster once, at no tenant's database but those that nobody knows.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn diagnose(&self) -> ApiResult<Diagnosis> {
        let migrations = Migrations::load(self.settings.operator_migrations.as_deref()).await?;
        let all = self.list(TenantFilter::default()).await?;
        let (mut findings, sound) = secrets::look(self).await?;
        findings.extend(journal::look(self).await?);
        findings.extend(tenants::look(self, &all, &migrations).await?);
        findings.extend(kept::look(self).await?);
        let keys = self.control.keys.clone();
        let mut clusters = Vec::new();
        // With a secret that does not open, the list of clusters cannot be read; that has been said.
        if sound {
            clusters = self.control.db.read(async move |conn: &mut MainConn| clusters::list(conn, &keys).await).await?;
        }
        let known_before =
            self.control.db.read(async |conn: &mut MainConn| control::names_on_servers(conn).await).await?;
        let context = server::Context { fleet: self, tenants: &all, known_before, hash: migrations.hash() };
        let mut looks =
            stream::iter(clusters.iter().map(|cluster| server::look(&context, cluster))).buffer_unordered(AT_ONCE);
        while let Some(found) = looks.next().await {
            findings.extend(found);
        }
        drop(looks);
        findings.sort_by_key(|finding| (finding.severity == Severity::Warning, finding.code, finding.subject.clone()));
        Ok(Diagnosis { findings, tenants: all.len(), clusters: clusters.len() })
    }
}

/// A statement for a cluster's administrator, as a command.
fn psql(statement: &str) -> String {
    format!("psql \"$CLUSTER_ADMIN_URL\" -c '{}'", statement.replace('\'', "'\\''"))
}

/// Some of many, for one line.
fn some<'a>(tenants: impl Iterator<Item = &'a TenantRecord>) -> String {
    const SHOWN: usize = 5;
    let slugs: Vec<&str> = tenants.map(|tenant| tenant.slug.as_str()).collect();
    let more = if slugs.len() > SHOWN { format!(" and {} more", slugs.len() - SHOWN) } else { String::new() };
    format!("{}{more}", slugs[..slugs.len().min(SHOWN)].join(", "))
}
