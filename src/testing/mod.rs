//! What tests stand on: a real PostgreSQL of their own, the real application on a real port, and people who speak to it.
//! For this crate's tests and for embedders' own.
//!
//! ```no_run
//! # async fn test() {
//! use tenantry::testing::TestApp;
//!
//! let app = TestApp::shared().await;
//! let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
//! let id = acme.admin().contact("Lovelace").await;
//! acme.user().get(&format!("/api/v1/contacts/{id}")).await.expect(200);
//! globex.admin().get(&format!("/api/v1/contacts/{id}")).await.refused(404, "not_found");
//! # }
//! ```

mod answer;
mod app;
mod cluster;
mod ground;
mod persona;
mod proxy;
mod tenant;

pub use answer::Answer;
pub use app::{TestApp, TestAppBuilder};
pub use cluster::{TestCluster, TestDatabase};
pub use persona::Persona;
pub use proxy::{Direction, Fault, FaultProxy};
pub use tenant::Tenant;
