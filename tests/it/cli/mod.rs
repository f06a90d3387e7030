//! The command line's contract, with the real program.

mod config;
mod dev;
mod keys;
mod pool;
mod replicas;
mod serve;
mod snapshot;
mod tenants;
mod unmigrated;
mod worker;
