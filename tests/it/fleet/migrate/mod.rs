//! Migrations over all tenants of an installation.

mod conflicts;
mod frozen;
mod ground;
mod interrupted;
mod operators;
mod outside;
mod owners;
mod runs;
mod skew;
mod traffic;
