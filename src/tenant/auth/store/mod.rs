//! Credentials, login attempts, sessions, refresh tokens and invitations, in the tenant's database.

mod credentials;
mod invitations;
mod sessions;

pub use credentials::*;
pub use invitations::*;
pub use sessions::*;
