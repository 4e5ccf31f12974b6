//! How fast a scan is: an honest script, a large file of realistic code, and the densest text that
//! the limits let through. Then the same texts through CPython's `ast.parse` alone, as a ratio.

use std::fs;
use std::hint::black_box;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use crusades_scan::{Policy, ScanOptions, scan};
use ruff_python_parser::parse_module;

/// Bytes of an ordinary submission.
const SCRIPT_BYTES: usize = 8_000;

/// Bytes of the large file; the policy allows 500,000.
const LARGE_BYTES: usize = 400_000;

/// Repetitions of which the fastest counts, here and in Python.
const REPETITIONS: u32 = 30;

/// Reads lengths and texts from its input, and prints the seconds of the fastest parse of each.
const PYTHON: &str = "
import ast, gc, sys, time
repetitions = int(sys.argv[1])
gc.disable()
for length in map(int, sys.argv[2:]):
    text = sys.stdin.buffer.read(length)
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        ast.parse(text)
        times.append(time.perf_counter() - started)
    print(min(times))
";

struct Input {
    name: &'static str,
    text: String,
}

/// The honest submissions in order of their names, without what may stand in a file only once.
fn honest() -> io::Result<Vec<String>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/honest");
    let mut paths = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path)?;
            let end = text.find("\nif __name__").map_or(text.len(), |end| end + 1);
            Ok(text[..end].replace("from __future__ import annotations\n", ""))
        })
        .collect()
}

fn inputs() -> io::Result<Vec<Input>> {
    let honest = honest()?;
    let mut script = String::new();
    for text in &honest {
        if script.len() + text.len() <= SCRIPT_BYTES + SCRIPT_BYTES / 20 {
            script.push_str(text);
        }
    }
    let mut large = String::new();
    for text in honest.iter().cycle() {
        if large.len() >= LARGE_BYTES {
            break;
        }
        large.push_str(text);
    }
    // Four tokens in six bytes, a binding and a read in each line, just below the limit.
    let dense = "a = b\n".repeat(62_000);
    // What is read but hardly judged: numbers and words, as large as a file may be.
    let mut table = String::from("TABLE = [\n");
    for number in 0.. {
        let row = format!(
            "    ({number}, {}.5, 'name_{}'),\n",
            number * 7,
            number % 97
        );
        if table.len() + row.len() > 499_000 {
            break;
        }
        table.push_str(&row);
    }
    table.push_str("]\n");
    Ok(vec![
        Input {
            name: "a file of data",
            text: table,
        },
        Input {
            name: "an honest script",
            text: script,
        },
        Input {
            name: "a large file",
            text: large,
        },
        Input {
            name: "the densest file",
            text: dense,
        },
    ])
}

fn measure(criterion: &mut Criterion, inputs: &[Input]) {
    let policy = Policy::builtin();
    let options = ScanOptions::default();
    let mut group = criterion.benchmark_group("scan");
    group.sample_size(20);
    group.measurement_time(Duration::from_secs(4));
    for input in inputs {
        group.throughput(Throughput::Bytes(input.text.len() as u64));
        group.bench_function(input.name, |bencher| {
            bencher.iter(|| scan(black_box(input.text.as_bytes()), &policy, &options));
        });
    }
    group.finish();
}

fn fastest_of(work: impl Fn()) -> Duration {
    let times = (0..REPETITIONS).map(|_| {
        let started = Instant::now();
        work();
        started.elapsed()
    });
    times.min().unwrap_or_default()
}

fn fastest(text: &str) -> Duration {
    let policy = Policy::builtin();
    let options = ScanOptions::default();
    fastest_of(|| {
        black_box(scan(black_box(text.as_bytes()), &policy, &options));
    })
}

/// The seconds that `ast.parse` takes for each text, from one Python process.
fn python(inputs: &[Input]) -> Result<Vec<f64>, String> {
    let lengths = inputs.iter().map(|input| input.text.len().to_string());
    let mut child = Command::new("python3")
        .args(["-c", PYTHON, &REPETITIONS.to_string()])
        .args(lengths)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("python3 does not start: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        for input in inputs {
            stdin
                .write_all(input.text.as_bytes())
                .map_err(|error| format!("python3 does not read: {error}"))?;
        }
    }
    let output = child
        .wait_with_output()
        .map_err(|error| format!("python3 does not end: {error}"))?;
    let seconds: Vec<f64> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    if seconds.len() == inputs.len() {
        Ok(seconds)
    } else {
        Err(format!("python3 failed: {}", output.status))
    }
}

fn compare(inputs: &[Input]) {
    let seconds = match python(inputs) {
        Ok(seconds) => seconds,
        Err(reason) => {
            println!("no ratio against ast.parse: {reason}");
            return;
        }
    };
    for (input, python) in inputs.iter().zip(seconds) {
        let scan = fastest(&input.text).as_secs_f64();
        let parse = fastest_of(|| {
            black_box(parse_module(black_box(&input.text)).is_ok());
        })
        .as_secs_f64();
        println!(
            "{}: {} bytes, scan {:.3} ms ({:.1} MB/s), of which the parser alone {:.3} ms, \
             ast.parse alone {:.3} ms, {:.1} times as fast",
            input.name,
            input.text.len(),
            scan * 1e3,
            input.text.len() as f64 / scan / 1e6,
            parse * 1e3,
            python * 1e3,
            python / scan,
        );
    }
}

fn main() -> io::Result<()> {
    let inputs = inputs()?;
    let mut criterion = Criterion::default().configure_from_args();
    measure(&mut criterion, &inputs);
    compare(&inputs);
    criterion.final_summary();
    Ok(())
}
