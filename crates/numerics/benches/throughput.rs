//! Bytes read per second by the comparisons: `cargo bench -p crusades-numerics`.

use std::hint::black_box;
use std::time::Instant;

use crusades_numerics::{CompareError, Dtype, TensorBytes, compare_values, compare_weights};

const TENSOR_BYTES: usize = 256 << 20;
const REPEATS: usize = 5;

fn main() -> Result<(), CompareError> {
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
        let [initial, reference, submission] = [1, 2, 3].map(|salt| finite_bytes(dtype, salt));
        let tensor = |bytes| TensorBytes { dtype, bytes };
        report("compare_weights", dtype, 3, || {
            compare_weights(tensor(&initial), tensor(&reference), tensor(&submission))
        })?;
        report("compare_values", dtype, 2, || {
            compare_values(tensor(&reference), tensor(&submission), 1e-3, 1e-3)
        })?;
    }
    Ok(())
}

fn report<T>(
    name: &str,
    dtype: Dtype,
    tensors: usize,
    compare: impl Fn() -> Result<T, CompareError>,
) -> Result<(), CompareError> {
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let start = Instant::now();
        black_box(compare()?);
        best = best.min(start.elapsed().as_secs_f64());
    }
    let gigabytes = (tensors * TENSOR_BYTES) as f64 / 1e9;
    println!(
        "{name:<16} {dtype:<9} {tensors} x {} MiB: {best:.3} s, {:.2} GB/s",
        TENSOR_BYTES >> 20,
        gigabytes / best
    );
    Ok(())
}

/// Elements near 1, so that none is infinite or NaN in any dtype.
fn finite_bytes(dtype: Dtype, salt: u64) -> Vec<u8> {
    let mut state = salt;
    let mut bytes = Vec::with_capacity(TENSOR_BYTES);
    while bytes.len() < TENSOR_BYTES {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let low = (state >> 40).to_le_bytes();
        match dtype {
            Dtype::F32 => bytes.extend([low[0], low[1], low[2] & 0x7f, 0x3f]),
            Dtype::BF16 => bytes.extend([low[0] & 0x7f, 0x3f]),
            Dtype::F16 => bytes.extend([low[0], 0x3c | (low[1] & 0x03)]),
        }
    }
    bytes
}
