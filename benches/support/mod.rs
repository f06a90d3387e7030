//! What the sections share: the installation under test, the load, the figures.

pub mod contender;
pub mod installation;
pub mod load;
pub mod postgres;
pub mod spread;
