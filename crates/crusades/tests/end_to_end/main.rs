//! The program as its users meet it: the built binary, real PyTorch, real sandboxes, a small model.
//!
//! What needs PyTorch is skipped with a printed reason where its environment is absent, and fails
//! there if `CRUSADES_REQUIRE_ENVIRONMENT` is set.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

mod behaviour;
mod calibrate;
mod commands;
mod corpus;
mod determinism;
mod disturbance;
mod execution;
mod inputs;
mod killing;
mod places;
mod prints;
mod submission;
mod table;
mod tiers;
mod traces;
