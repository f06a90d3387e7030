//! The command line's contract, with the real program.

mod config;
mod dev;
mod replicas;
mod serve;
mod tenants;
