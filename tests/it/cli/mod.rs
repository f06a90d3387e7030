//! The command line's contract, with the real program.

mod config;
mod dev;
mod pool;
mod replicas;
mod serve;
mod snapshot;
mod tenants;
