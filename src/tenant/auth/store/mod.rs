//! Credentials, login attempts, sessions, refresh tokens and invitations, in the tenant's database.

mod attempts;
mod credentials;
mod fixed;
mod invitations;
mod sessions;
mod standing;

pub use attempts::*;
pub use credentials::*;
pub use invitations::*;
pub use sessions::*;
pub use standing::*;
