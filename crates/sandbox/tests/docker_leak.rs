//! Nothing of a container is left, however many there were and whenever their hosts were killed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

mod support;

use support::leaks::{Kind, in_a_row, killed_while_starting};

/// 10 in a row and 3 that are killed while they start.
#[test]
fn thirteen_containers_leave_nothing() {
    if let Some(image) = support::engine::image() {
        in_a_row(&Kind::docker(image), 10);
        killed_while_starting(&Kind::docker(image), 3);
    }
}

/// The same, 200 and 20: `cargo test -p crusades-sandbox --test docker_leak -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn two_hundred_and_twenty_containers_leave_nothing() {
    if let Some(image) = support::engine::image() {
        in_a_row(&Kind::docker(image), 200);
        killed_while_starting(&Kind::docker(image), 20);
    }
}
