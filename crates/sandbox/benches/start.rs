//! How long a sandbox, native or a container, takes from its start to the first instruction of its program,
//! to freeze, and to kill, next to a plain process in the same run: `cargo bench -p crusades-sandbox`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on must fail"
)]

use std::io::{PipeReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crusades_sandbox::{Backend, DockerSettings, Sandbox, SandboxRequest, Tier, probe_with};

#[path = "../tests/support/mod.rs"]
mod support;

/// How often each thing is measured.
const ROUNDS: usize = 101;

/// The same for containers, which take long.
const CONTAINER_ROUNDS: usize = 31;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first thing that the program does is to say so; then it burns.
const PROGRAM: &str = "echo; while :; do :; done";

fn main() {
    // A test run only asks whether it can be built.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let launcher = PathBuf::from(env!("CARGO_BIN_EXE_sandbox-launcher"));
    let found = probe_with(&launcher);
    println!(
        "freezer: {}, Landlock ABI {}",
        found.freezer, found.landlock_abi
    );
    let plain = sorted(plain_round);
    print_row("plain process: start", &plain, None);
    for tier in [Tier::One, Tier::Two, Tier::Three] {
        if found.tier().is_none_or(|best| best > tier) {
            println!("{tier} is left out: {}", found.reasons.join("; "));
            continue;
        }
        measure(&tier.to_string(), ROUNDS, || {
            sandbox_round(Backend::Native, tier, &launcher)
        });
    }
    // Says itself why it is left out.
    if let Some(image) = support::engine::image() {
        let settings = DockerSettings::new(image);
        measure("container", CONTAINER_ROUNDS, || {
            sandbox_round(Backend::Docker(settings.clone()), Tier::One, &launcher)
        });
    }
}

/// Measures a kind of sandbox: its start, freeze and kill.
fn measure(name: &str, rounds: usize, round: impl Fn() -> (Duration, Duration, Duration)) {
    let (mut starts, mut freezes, mut kills) = (Vec::new(), Vec::new(), Vec::new());
    // Plain processes in turn with sandboxes, so that both meet the same machine.
    let mut beside = Vec::new();
    for _ in 0..rounds {
        beside.push(plain_round());
        let (start, freeze, kill) = round();
        starts.push(start);
        freezes.push(freeze);
        kills.push(kill);
    }
    for times in [&mut beside, &mut starts, &mut freezes, &mut kills] {
        times.sort();
    }
    print_row(&format!("{name}: start"), &starts, Some(&beside));
    print_row(&format!("{name}: freeze"), &freezes, None);
    print_row(&format!("{name}: kill"), &kills, None);
}

fn sorted(mut round: impl FnMut() -> Duration) -> Vec<Duration> {
    let mut times: Vec<_> = (0..ROUNDS).map(|_| round()).collect();
    times.sort();
    times
}

fn plain_round() -> Duration {
    let (mut reader, writer) = std::io::pipe().expect("pipe");
    let begin = Instant::now();
    let mut child = Command::new("/bin/sh")
        .args(["-c", PROGRAM])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(writer)
        .spawn()
        .expect("start a process");
    first_byte(&mut reader);
    let took = begin.elapsed();
    child.kill().expect("kill");
    child.wait().expect("reap");
    took
}

fn sandbox_round(
    backend: Backend,
    tier: Tier,
    launcher: &std::path::Path,
) -> (Duration, Duration, Duration) {
    let (mut reader, writer) = std::io::pipe().expect("pipe");
    let mut request = SandboxRequest::new("/bin/sh");
    request.arguments = ["-c", &format!("exec >&3; {PROGRAM}")]
        .map(Into::into)
        .to_vec();
    request.inherit = vec![(writer.into(), 3)];
    request.launcher = Some(launcher.to_owned());
    request.backend = backend;
    request.force_tier = Some(tier);
    request.minimum_tier = tier;
    let begin = Instant::now();
    let sandbox = Sandbox::start(request).expect("start a sandbox");
    first_byte(&mut reader);
    let start = begin.elapsed();
    std::thread::sleep(Duration::from_millis(2));
    let begin = Instant::now();
    sandbox.freeze(PATIENCE).expect("freeze");
    let freeze = begin.elapsed();
    let begin = Instant::now();
    sandbox.kill(PATIENCE).expect("kill");
    (start, freeze, begin.elapsed())
}

fn first_byte(reader: &mut PipeReader) {
    reader.read_exact(&mut [0]).expect("the program runs");
}

/// Median and ninetieth percentile of sorted times; the ratio to, and what is above, another median.
fn print_row(name: &str, times: &[Duration], beside: Option<&[Duration]>) {
    let at = |times: &[Duration], percent: usize| times[(times.len() - 1) * percent / 100];
    let (median, high) = (at(times, 50), at(times, 90));
    print!("{name:<22} median {median:>10.2?}  p90 {high:>10.2?}");
    if let Some(beside) = beside {
        let plain = at(beside, 50);
        print!(
            "  = {:.1} x plain ({plain:.2?}), {:.2?} above it",
            median.as_secs_f64() / plain.as_secs_f64(),
            median.saturating_sub(plain)
        );
    }
    println!();
}
