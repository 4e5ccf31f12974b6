//! One evaluation: plan, worker protocol, clock, reference, verdict, report.
//!
//! The submission runs in a worker of its own, in a sandbox; clock, seeds, data, reference and
//! verdict are in this process, out of its reach. This crate knows nothing of chains and stores.
//!
//! Entry points: [`Task::load`] says what is trained on what, [`Round::prepare`] makes the reference runs, [`Round::judge`] judges one submission
//! in the round, [`calibrate::calibrate`] finds limits for a benchmark, [`bench::compare`] measures speed alone.

pub mod bench;
pub mod benchmark;
mod bundle;
pub mod calibrate;
pub mod calibration;
mod checks;
pub mod clock;
mod distribution;
mod failure;
mod judge;
pub mod layout;
mod limits;
mod load;
mod parallel;
pub mod plan;
pub mod protocol;
pub mod question;
pub mod report;
mod round;
pub mod trial;
mod verdict;
mod weights;
pub mod worker;

pub use bundle::BASELINE;
pub use distribution::distribution;
pub use judge::{Admitted, Submission, admit, scan};
pub use layout::LayoutError;
pub use parallel::in_parallel;
pub use plan::{PlanError, Seed};
pub use round::{Event, Interpreter, Observer, Round, RoundError, Settings, Task, base_of};
pub use worker::WorkerError;
