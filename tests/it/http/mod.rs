//! The REST contract, as `docs/api.md` has it.

mod bodies;
mod bounds;
mod conditional;
mod documents;
mod envelope;
mod headers;
mod health;
mod idempotency;
mod lists;
mod pools;
mod roles;
mod surface;
