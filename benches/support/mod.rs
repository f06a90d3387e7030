//! What the sections share: the installations under test, the load, the figures.

pub mod contender;
pub mod crowd;
pub mod draw;
pub mod duel;
pub mod estate;
pub mod failures;
pub mod installation;
pub mod latencies;
pub mod load;
pub mod observer;
pub mod postgres;
pub mod process;
pub mod processor;
pub mod server;
pub mod spread;
pub mod wrk;
