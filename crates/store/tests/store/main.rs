//! The store as its users see it, on real files.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod crash;
mod judgements;
mod opening;
mod samples;
