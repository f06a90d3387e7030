//! The server: routes, middleware, documents, listeners. `create_app` is the same for `main` and for tests.

mod app;
mod docs;
mod feature;
mod health;
mod metrics;
mod node;
mod observe;
mod openapi;
mod openapi_bounds;
mod openapi_common;
mod parts;
mod request_id;
mod server;
mod state;
mod surface;
mod well_known;

pub use app::create_app;
pub use node::{Node, Server};
pub use openapi::document;
pub use server::{Listeners, ServerOptions, manage_alone, serve};
pub use state::{AppState, HttpSettings};
