//! Tenantry: one server, a PostgreSQL database per customer.
//!
//! Begin with [`router`]: from a verified token to a connection of its tenant's own database. Embedders need nothing
//! else, and get it alone with `default-features = false`. The rest is the server: two planes of features ([`control`]
//! and [`tenant`]), the operations that touch both ([`fleet`]), and the doors to them ([`http`], [`cli`], [`jobs`]).

#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod control;
#[cfg(feature = "server")]
pub mod dev;
#[cfg(feature = "server")]
pub mod error;
#[cfg(feature = "server")]
pub mod fleet;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod jobs;
pub mod kernel;
#[cfg(feature = "server")]
pub mod mailer;
#[cfg(feature = "server")]
pub mod outbound;
#[cfg(feature = "server")]
pub mod rest;
pub mod router;
#[cfg(feature = "server")]
pub mod storage;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
