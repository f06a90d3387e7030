//! What every tenant's database is brought to: the built-in migrations, then the operator's own.

use std::path::Path;
use std::sync::LazyLock;

use crate::control::migration_runs::Head;
use crate::error::ApiResult;
use crate::kernel::crypto::{hex, sha256};
use crate::router::migrate::{BUILT_IN_HISTORY, MigrationSet, OPERATOR_HISTORY};

mod embedded {
    refinery::embed_migrations!("tenant-migrations");
}

/// Both sets, as they are at this moment.
#[derive(Debug, Clone)]
pub struct Migrations {
    /// Part of the program.
    pub built_in: MigrationSet,
    /// From `TENANTRY_TENANT_MIGRATIONS`; empty without it.
    pub operator: MigrationSet,
}

impl Migrations {
    /// The built-in migrations, and whatever is in the operator's directory now.
    ///
    /// # Errors
    /// 409, naming the file, if the directory cannot be used as it is.
    pub async fn load(directory: Option<&Path>) -> ApiResult<Self> {
        let operator = match directory {
            Some(directory) => MigrationSet::load(OPERATOR_HISTORY, directory).await.map_err(|fault| {
                super::refused("The operator's migrations cannot be used. Correct them in the directory of TENANTRY_TENANT_MIGRATIONS.")
                    .caused_by(fault)
            })?,
            None => MigrationSet::new(OPERATOR_HISTORY, Vec::new()),
        };
        Ok(Self { built_in: built_in(), operator })
    }

    /// What they lead to.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { schema_version: self.built_in.head(), operator_version: self.operator.head(), hash: self.hash() }
    }

    /// Whether a database is known to have exactly those up to these versions, by the digest that was noted of it.
    #[must_use]
    pub fn are_known(&self, built_in: i32, operator: i32, hash: &str) -> bool {
        Self { built_in: self.built_in.up_to(built_in), operator: self.operator.up_to(operator) }.hash() == hash
    }

    /// Twelve hexadecimal digits that change with any migration of either set.
    #[must_use]
    pub fn hash(&self) -> String {
        let both = [self.built_in.fingerprint(), self.operator.fingerprint()].concat();
        hex(&sha256(&both)[..6])
    }
}

/// The built-in migrations of a tenant's database.
#[must_use]
pub fn built_in() -> MigrationSet {
    static BUILT_IN: LazyLock<MigrationSet> =
        LazyLock::new(|| MigrationSet::new(BUILT_IN_HISTORY, embedded::migrations::runner().get_migrations().clone()));
    BUILT_IN.clone()
}
