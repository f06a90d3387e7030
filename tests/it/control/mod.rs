//! The control plane: secrets at rest, the order of changes, operators.

mod generations;
mod operator_access;
mod operator_audit;
mod operators;
mod secrets;
