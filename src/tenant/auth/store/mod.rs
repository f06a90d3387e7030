//! Credentials, login attempts, sessions, refresh tokens and invitations, in the tenant's database.

mod credentials;
mod fixed;
mod invitations;
mod sessions;
mod standing;

pub use credentials::*;
pub use invitations::*;
pub use sessions::*;
pub use standing::*;
