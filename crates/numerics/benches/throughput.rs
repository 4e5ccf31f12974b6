//! The comparison of 1.5 GB of bfloat16 weights with their reference and initial values, all three
//! in mapped files: GB of submission bytes per second, the share of the memory bandwidth, and the
//! same checks in plain PyTorch.
//!
//! ```sh
//! CRUSADES_PYTHON=/path/to/python cargo bench -p crusades-numerics
//! ```
//!
//! The files take 4.5 GB in the directory for temporary files (`TMPDIR`); where that is not in
//! memory they are read once before anything is timed. Without `CRUSADES_PYTHON`, or where that
//! has no torch, PyTorch is left out. `CRUSADES_BENCH_LAYERS` makes the model smaller or larger.

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::process::Command;
use std::time::Instant;

use crusades_numerics::{Dtype, TensorBytes, WeightComparison, compare_values, compare_weights};
use memmap2::Mmap;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Deserialize;

/// With 39 layers of this model, 750 million elements.
const HIDDEN: usize = 1024;
const INTERMEDIATE: usize = 4096;
const KEY_VALUE: usize = 256;
const VOCABULARY: usize = 151_936;
const LAYERS: usize = 39;

const REPEATS: usize = 5;
/// PyTorch takes minutes where first touches of memory are slow.
const TORCH_REPEATS: usize = 2;
const TORCH_SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/plain_torch.py");

/// Elements of each of the tensors that stay in the cache or take other dtypes.
const SMALL_ELEMENTS: usize = 64 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let layers = match std::env::var("CRUSADES_BENCH_LAYERS") {
        Ok(layers) => layers.parse()?,
        Err(_) => LAYERS,
    };
    let shapes = shapes(layers);
    let elements: usize = shapes
        .iter()
        .map(|shape| shape.iter().product::<usize>())
        .sum();
    let directory = tempfile::tempdir()?;
    let paths = ["initial", "reference", "submission"].map(|name| directory.path().join(name));
    write_weights(&paths.each_ref().map(|path| path.as_path()), elements)?;
    let mut maps = Vec::new();
    for path in &paths {
        // SAFETY: nothing writes to the files any more.
        maps.push(unsafe { Mmap::map(&File::open(path)?) }?);
    }
    let gigabytes = (elements * 2) as f64 / 1e9;
    println!(
        "{gigabytes:.2} GB of bfloat16 in {} tensors, best of {REPEATS}",
        shapes.len()
    );

    let all = std::thread::available_parallelism()?.get();
    let mut fused = Vec::new();
    for threads in [1, all] {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        let read = best_time(&pool, || maps.iter().map(|map| sum_words(map)).sum::<u64>());
        let (seconds, measured) = {
            let compare = || compare_model(&shapes, &maps);
            (best_time(&pool, compare), pool.install(compare))
        };
        println!(
            "{threads} threads: read-only sum {:.1} GB/s; compare_weights {:.2} GB/s of submission \
             bytes, {:.1} GB/s in all, {:.0} % of the bandwidth",
            3.0 * gigabytes / read,
            gigabytes / seconds,
            3.0 * gigabytes / seconds,
            100.0 * read / seconds
        );
        fused.push((threads, seconds, measured));
    }
    match std::env::var_os("CRUSADES_PYTHON") {
        None => println!("PyTorch left out: CRUSADES_PYTHON is not set"),
        Some(python) => {
            // All threads first, since that is the number that matters.
            for (threads, seconds, measured) in fused.iter().rev() {
                let output = Command::new(&python)
                    .arg(TORCH_SCRIPT)
                    .args(&paths)
                    .args([threads.to_string(), TORCH_REPEATS.to_string()])
                    .args(shapes.iter().map(|shape| shape_text(shape)))
                    .output()?;
                if !output.status.success() {
                    let reason = String::from_utf8_lossy(&output.stderr).into_owned();
                    println!(
                        "PyTorch left out: {}",
                        reason.lines().last().unwrap_or_default()
                    );
                    break;
                }
                let torch: Torch = serde_json::from_slice(&output.stdout)?;
                torch.assert_agrees(measured);
                println!(
                    "{threads} threads: PyTorch {} {:.3} GB/s of submission bytes, {:.1} s; \
                     compare_weights is {:.0} times as fast",
                    torch.version,
                    gigabytes / torch.seconds,
                    torch.seconds,
                    torch.seconds / seconds
                );
            }
        }
    }
    drop(maps);
    drop(directory);
    other_dtypes(all)
}

/// Every dtype and the comparison of values, over tensors larger than a cache.
fn other_dtypes(threads: usize) -> Result<(), Box<dyn Error>> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
        let tensors = [1, 2, 3].map(|salt| {
            let mut bytes = Vec::with_capacity(SMALL_ELEMENTS * dtype.size_in_bytes());
            let mut state = salt;
            while bytes.len() < SMALL_ELEMENTS * dtype.size_in_bytes() {
                bytes.extend(near_one(dtype, random(&mut state)));
            }
            bytes
        });
        let [initial, reference, submission] =
            tensors.each_ref().map(|bytes| TensorBytes { dtype, bytes });
        let gigabytes = tensors[0].len() as f64 / 1e9;
        let weights = best_time(&pool, || compare_weights(initial, reference, submission));
        let values = best_time(&pool, || compare_values(reference, submission, 1e-3, 1e-3));
        println!(
            "{threads} threads, {dtype}: compare_weights {:.2}, compare_values {:.2} GB/s of \
             submission bytes",
            gigabytes / weights,
            gigabytes / values
        );
    }
    Ok(())
}

/// The shapes of a causal language model with tied embeddings.
fn shapes(layers: usize) -> Vec<Vec<usize>> {
    let layer = [
        vec![HIDDEN],
        vec![HIDDEN, HIDDEN],
        vec![HIDDEN],
        vec![KEY_VALUE, HIDDEN],
        vec![KEY_VALUE],
        vec![KEY_VALUE, HIDDEN],
        vec![KEY_VALUE],
        vec![HIDDEN, HIDDEN],
        vec![HIDDEN],
        vec![INTERMEDIATE, HIDDEN],
        vec![INTERMEDIATE, HIDDEN],
        vec![HIDDEN, INTERMEDIATE],
    ];
    let mut shapes = vec![vec![VOCABULARY, HIDDEN]];
    for _ in 0..layers {
        shapes.extend(layer.clone());
    }
    shapes.push(vec![HIDDEN]);
    shapes
}

fn shape_text(shape: &[usize]) -> String {
    let sides: Vec<String> = shape.iter().map(ToString::to_string).collect();
    sides.join("x")
}

/// Weights near 1 of either sign; the reference differs from the initial ones in half of the
/// elements, and the submission from the reference in a few.
fn write_weights(paths: &[&std::path::Path; 3], elements: usize) -> std::io::Result<()> {
    let mut files = Vec::new();
    for path in paths {
        files.push(BufWriter::with_capacity(1 << 20, File::create(path)?));
    }
    let mut state = 1;
    for _ in 0..elements {
        let random = random(&mut state);
        let initial = 0x3f00 | u16::from(random[0]) | u16::from(random[1] & 1) << 15;
        let reference = initial ^ u16::from(random[1] >> 1 & 1);
        let submission = reference ^ u16::from(random[2] < 16);
        for (file, value) in files.iter_mut().zip([initial, reference, submission]) {
            file.write_all(&value.to_le_bytes())?;
        }
    }
    files.iter_mut().try_for_each(BufWriter::flush)
}

fn near_one(dtype: Dtype, random: [u8; 3]) -> impl Iterator<Item = u8> {
    let bytes = match dtype {
        Dtype::F32 => [random[0], random[1], random[2] & 0x7f, 0x3f],
        Dtype::BF16 => [random[0] & 0x7f, 0x3f, 0, 0],
        Dtype::F16 => [random[0], 0x3c | (random[1] & 0x03), 0, 0],
    };
    bytes.into_iter().take(dtype.size_in_bytes())
}

fn random(state: &mut u64) -> [u8; 3] {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    let bytes = state.to_le_bytes();
    [bytes[5], bytes[6], bytes[7]]
}

fn compare_model(shapes: &[Vec<usize>], maps: &[Mmap]) -> WeightComparison {
    let mut total = WeightComparison::default();
    let mut start = 0;
    for shape in shapes {
        let end = start + 2 * shape.iter().product::<usize>();
        let tensor = |map: usize| TensorBytes {
            dtype: Dtype::BF16,
            bytes: &maps[map][start..end],
        };
        if let Ok(measured) = compare_weights(tensor(0), tensor(1), tensor(2)) {
            total = total.merge(measured);
        }
        start = end;
    }
    total
}

/// The least that has to be done to have read the bytes.
fn sum_words(bytes: &[u8]) -> u64 {
    bytes
        .par_chunks(1 << 20)
        .map(|chunk| {
            let words = chunk.as_chunks().0;
            words.iter().fold(0_u64, |sum, word| {
                sum.wrapping_add(u64::from_le_bytes(*word))
            })
        })
        .reduce(|| 0, u64::wrapping_add)
}

fn best_time<T: Send>(pool: &ThreadPool, work: impl Fn() -> T + Sync) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let start = Instant::now();
        black_box(pool.install(&work));
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// What the script prints.
#[derive(Deserialize)]
struct Torch {
    seconds: f64,
    version: String,
    changed: u64,
    reference_changed: u64,
    non_finite: u64,
    non_finite_reference: u64,
    squared_error: f64,
    squared_reference: f64,
    squared_update: f64,
    squared_submission_update: f64,
    max_abs_error: f64,
}

impl Torch {
    /// Counts are equal. PyTorch adds up in f32, which was seen to be 4 % off over the embeddings.
    fn assert_agrees(&self, measured: &WeightComparison) {
        assert_eq!(self.changed, measured.changed);
        assert_eq!(self.reference_changed, measured.reference_changed);
        assert_eq!(self.non_finite, measured.non_finite);
        assert_eq!(self.non_finite_reference, measured.non_finite_reference);
        assert_eq!(self.max_abs_error, measured.max_abs_error);
        for (torch, fused) in [
            (self.squared_error, measured.squared_error),
            (self.squared_reference, measured.squared_reference),
            (self.squared_update, measured.squared_update),
            (
                self.squared_submission_update,
                measured.squared_submission_update,
            ),
        ] {
            assert!((torch / fused - 1.0).abs() < 0.1, "{torch} and {fused}");
        }
    }
}
