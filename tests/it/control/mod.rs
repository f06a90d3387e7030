//! The control plane: secrets at rest, the order of changes, operators.

mod generations;
mod operators;
mod secrets;
