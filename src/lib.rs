//! Tenantry: one server, a PostgreSQL database per customer.

pub mod kernel;
pub mod router;
