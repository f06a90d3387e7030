//! Making, adopting and unmaking a tenant: a list of named steps, each of them safe to repeat, journaled in the control
//! plane, resumable after a crash at any point, and undoable.

mod admin;
mod again;
pub mod attach;
mod claimed;
mod create;
mod drive;
mod later;
mod places;
pub(super) mod probe;
mod ready;
pub(super) mod remove;
pub(super) mod run;
mod same;
pub(super) mod steps;
mod trail;
pub(super) mod verify;
mod welcome;

pub(super) use again::Asked;
pub(super) use places::Places;
pub(super) use verify::read_stamp;

use secrecy::SecretString;

pub use attach::AttachTenant;
pub use claimed::CLAIMED;
pub use create::CreateTenant;
pub(super) use create::generated_name;
pub use remove::{DeleteTenant, Deleted};
pub use welcome::Welcome;

use crate::control::tenants::TenantRecord;
use crate::fleet::operation::StepTime;
use crate::router::tenant::words;
use crate::tenant::auth::session::SignIn;

words! {
    /// A step's name, as it is journaled and shown.
    Step {
        /// The registry entry, not yet routable, and the journal.
        Reserve = "reserve",
        /// The key that signs the tenant's tokens.
        SigningKey = "signing_key",
        /// Its own role.
        Role = "role",
        /// Its own database, cloned from the cluster's template.
        Database = "database",
        /// Everyone else shut out.
        Grants = "grants",
        /// The database says whose it is.
        Stamp = "stamp",
        /// The built-in schema.
        Migrations = "migrations",
        /// The operator's own.
        OperatorMigrations = "operator_migrations",
        /// Permissions and system roles.
        Seed = "seed",
        /// Its first administrator, where one was asked for.
        FirstAdmin = "first_admin",
        /// As its own role: the right stamp, and no other database lets it in.
        Verify = "verify",
        /// Routable.
        Activate = "activate",
    }
}

/// How a tenant is made on a cluster.
pub const CREATE: &[Step] = &[
    Step::Reserve,
    Step::SigningKey,
    Step::Role,
    Step::Database,
    Step::Grants,
    Step::Stamp,
    Step::Migrations,
    Step::OperatorMigrations,
    Step::Seed,
    Step::FirstAdmin,
    Step::Verify,
    Step::Activate,
];

/// How a customer's own database is adopted.
pub const ATTACH: &[Step] = &[
    Step::Reserve,
    Step::SigningKey,
    Step::Stamp,
    Step::Migrations,
    Step::OperatorMigrations,
    Step::Seed,
    Step::FirstAdmin,
    Step::Verify,
    Step::Activate,
];

/// What a role may open at most, whatever the routers of all nodes do: a guard, not the budget.
pub(super) fn role_connections(ceiling: Option<i32>) -> i32 {
    const USUAL: i32 = 100;
    ceiling.unwrap_or_default().saturating_add(10).max(USUAL)
}

/// The first administrator of a new tenant. Neither e-mail nor password is kept outside the tenant's own database.
#[derive(Debug, Clone)]
pub struct FirstAdmin {
    /// The address to log in with.
    pub email: String,
    /// The password.
    pub password: AdminPassword,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
}

/// Where the first administrator's password comes from.
#[derive(Debug, Clone)]
pub enum AdminPassword {
    /// Chosen already.
    Given(SecretString),
    /// Chosen already, and known here by its Argon2id hash alone.
    Hashed(SecretString),
    /// Made here, shown once, and to be changed at first use.
    Generate,
}

/// A tenant that is ready to serve.
#[derive(Debug)]
pub struct Provisioned {
    /// The tenant.
    pub tenant: TenantRecord,
    /// What was done, those steps included that an interrupted run had done before.
    pub steps: Vec<StepTime>,
    /// The first administrator's password, where it was generated: shown this once.
    pub admin_password: Option<SecretString>,
    /// The first administrator's first session, where somebody was welcomed as soon as the tenant was there.
    pub first_session: Option<SignIn>,
}
