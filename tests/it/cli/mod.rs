//! The command line's contract, with the real program.

mod config;
mod dev;
mod serve;
mod snapshot;
mod tenants;
