//! What goes wrong outside of us, on real PostgreSQL: whoever is struck is told quickly, the others do not notice, and
//! afterwards all is well by itself.

mod backends;
mod clients;
mod control_plane;
mod crowd;
mod ground;
mod network;
mod passwords;
mod pressure;
mod schema_changes;
mod server_full;
