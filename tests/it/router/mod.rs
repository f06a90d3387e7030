//! Isolation and pools, against real databases.

mod attacks;
mod budget;
mod cross_tenant;
mod failures;
mod frozen;
mod given_up;
mod guards;
mod pools;
mod reads;
mod registry;
mod slices;
mod slices_offline;
mod snapshot;
mod transactions;
