//! Migrations over all tenants of an installation.

mod conflicts;
mod ground;
mod interrupted;
mod outside;
mod runs;
mod traffic;
