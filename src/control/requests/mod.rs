//! The memory of requests to the control plane that came with an `Idempotency-Key`.

mod store;

pub use store::{Begun, Kept, begin, forget, keep, trim};
