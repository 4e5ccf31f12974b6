//! Nothing of a sandbox is left, however many there were and whenever they were killed: no process,
//! no namespace, no mount, no control group, no descriptor, no file. One test at a time, because each
//! counts what the whole process holds.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

mod support;

use support::in_each_tier;
use support::leaks::{Kind, in_a_row, killed_while_starting};

/// In each tier, 60 in a row and 10 that are killed while they start.
#[test]
fn seventy_sandboxes_leave_nothing() {
    in_each_tier(|tier| {
        in_a_row(&Kind::native(tier), 60);
        killed_while_starting(&Kind::native(tier), 10);
    });
    support::run_again_as_ordinary_user();
}

/// The same, 200 and 20: `cargo test -p crusades-sandbox --test leak -- --ignored`.
#[test]
#[ignore = "takes a minute"]
fn two_hundred_and_twenty_sandboxes_leave_nothing() {
    in_each_tier(|tier| {
        in_a_row(&Kind::native(tier), 200);
        killed_while_starting(&Kind::native(tier), 20);
    });
}
