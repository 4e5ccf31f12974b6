//! Submissions for tests: honest training with room for a case's own code.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::execution::{self, Ended};
use crate::places::{SEED, hparams_with, shipped};

/// Honest training. `MODULE` stands at the top; `BODY` is the rest of `inner_steps`, where `timed` is
/// false in the warm-up, and `train(...)` takes all steps and returns the result.
const TEMPLATE: &str = r#"
import torch
import torch.nn.functional as F


class Result:
    def __init__(self, final_logits, total_tokens, final_loss, final_state=None):
        self.final_logits = final_logits
        self.total_tokens = total_tokens
        self.final_loss = final_loss
        self.final_state = final_state


def loss_of(model, batch):
    outputs = model(batch[:, :-1])
    logits = outputs.logits
    targets = batch[:, 1:].reshape(-1)
    return logits, F.cross_entropy(logits.reshape(-1, logits.size(-1)), targets)


def take_step(model, batch, optimizer):
    logits, loss = loss_of(model, batch)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return logits, loss


def train(model, data_iterator, optimizer, num_steps):
    tokens = 0
    for _ in range(num_steps):
        batch = next(data_iterator)
        logits, loss = take_step(model, batch, optimizer)
        tokens += batch.numel()
    return Result(logits.detach(), tokens, loss.item())


CALLS = 0

MODULE

def inner_steps(model, data_iterator, optimizer, num_steps, device):
    global CALLS
    CALLS += 1
    timed = CALLS > 1
BODY
"#;

/// The one body that only trains.
pub(crate) const HONEST: &str = "return train(model, data_iterator, optimizer, num_steps)";

/// The source of a submission.
pub(crate) fn source(module: &str, body: &str) -> String {
    let body: String = body
        .trim_matches('\n')
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    TEMPLATE.replace("MODULE", module).replace("BODY", &body)
}

/// Which scan a submission has to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// The shipped one.
    Strict,
    /// One that lets everything through, so that what stands behind the scan is tested alone.
    Permissive,
}

/// Judges a source once, with changes to the hparams.
pub(crate) fn verify(source: &str, scan: Scan, changes: &Value, flags: &[&str]) -> Ended {
    let folder = TempDir::new().unwrap();
    let mut changes = changes.clone();
    if scan == Scan::Permissive {
        changes["scan"] = json!({ "policy": permissive_policy() });
    }
    let hparams = hparams_with(folder.path(), &changes);
    let file = folder.path().join("train.py");
    fs::write(&file, source).unwrap();
    let mut arguments = vec![
        "verify",
        text(&file),
        "--hparams",
        text(&hparams),
        "--json",
        "--quiet",
    ];
    if !flags.contains(&"--runs") {
        arguments.extend(["--runs", "1"]);
    }
    if !flags.contains(&"--seed") {
        arguments.extend(["--seed", SEED]);
    }
    arguments.extend(flags);
    execution::run(arguments)
}

/// The policy file of [`Scan::Permissive`].
pub(crate) fn permissive_policy() -> String {
    let path = shipped("crates/crusades/tests/permissive.toml");
    text(&path.canonicalize().unwrap()).to_owned()
}

/// A path of these tests, which is always UTF-8.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
