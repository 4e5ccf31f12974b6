//! Cutting tensors at fixed places, spreading the pieces over threads and combining the partial
//! results in order.
//!
//! A chunk is what one thread takes; a block is what is widened at once and stays in the first
//! cache. Neither depends on the number of threads, so neither does any sum.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::tensor::TensorBytes;

/// Elements that one thread takes at a time.
pub const CHUNK_ELEMENTS: usize = 64 * 1024;

/// Elements widened at a time: three blocks of `f32` take 24 KiB.
const BLOCK_ELEMENTS: usize = 2048;

/// Independent sums that a loop over a block keeps, so that it can be vectorised without
/// reordering: element `i` always goes to sum `i % LANES`.
pub(crate) const LANES: usize = 8;

/// The same stretch of `N` tensors, widened, with every element that is not finite in any of
/// them, and the end of the last group, set to zero in all: what adds nothing to a sum of
/// differences or squares and counts as unchanged.
pub(crate) struct Block<const N: usize> {
    values: [[f32; BLOCK_ELEMENTS]; N],
    length: usize,
    /// For each tensor, how many of its own elements are not finite.
    pub(crate) non_finite: [u64; N],
    /// How many elements are not finite in at least one tensor.
    pub(crate) excluded: u64,
}

impl<const N: usize> Block<N> {
    fn empty() -> Self {
        Self {
            values: [[0.0; BLOCK_ELEMENTS]; N],
            length: 0,
            non_finite: [0; N],
            excluded: 0,
        }
    }

    fn load(&mut self, tensors: &[TensorBytes<'_>; N], start: usize, length: usize) {
        self.length = length;
        self.non_finite = [0; N];
        self.excluded = 0;
        let mut all_finite = true;
        for (tensor, values) in tensors.iter().zip(&mut self.values) {
            tensor.widen_into(start, &mut values[..length]);
            values[length..length.next_multiple_of(LANES)].fill(0.0);
            all_finite &= values[..length]
                .iter()
                .fold(true, |finite, value| finite & value.is_finite());
        }
        if !all_finite {
            self.exclude_non_finite(length);
        }
    }

    fn exclude_non_finite(&mut self, length: usize) {
        for element in 0..length {
            let mut excluded = false;
            for (values, non_finite) in self.values.iter().zip(&mut self.non_finite) {
                if !values[element].is_finite() {
                    *non_finite += 1;
                    excluded = true;
                }
            }
            if excluded {
                self.excluded += 1;
                for values in &mut self.values {
                    values[element] = 0.0;
                }
            }
        }
    }

    /// How many elements the block has, the excluded ones too.
    pub(crate) fn elements(&self) -> u64 {
        self.length as u64
    }

    /// The values of each tensor, in groups of one element per lane.
    pub(crate) fn groups(&self) -> [&[[f32; LANES]]; N] {
        self.values
            .each_ref()
            .map(|values| &values.as_chunks().0[..self.length.div_ceil(LANES)])
    }
}

/// Measures every block of `tensors`, which have `elements` elements each, and combines the
/// results from first to last.
pub(crate) fn measure_blocks<const N: usize, M: Default + Send>(
    tensors: &[TensorBytes<'_>; N],
    elements: usize,
    measure: impl Fn(&Block<N>) -> M + Sync,
    combine: impl Fn(M, M) -> M + Sync,
) -> M {
    let measure_chunk = |chunk: usize| {
        let end = elements.min((chunk + 1) * CHUNK_ELEMENTS);
        let mut block = Block::empty();
        (chunk * CHUNK_ELEMENTS..end)
            .step_by(BLOCK_ELEMENTS)
            .map(|start| {
                block.load(tensors, start, BLOCK_ELEMENTS.min(end - start));
                measure(&block)
            })
            .fold(M::default(), &combine)
    };
    let chunks: Vec<M> = (0..elements.div_ceil(CHUNK_ELEMENTS))
        .into_par_iter()
        .map(measure_chunk)
        .collect();
    chunks.into_iter().fold(M::default(), combine)
}

/// The sum of the lanes, always in the same order.
pub(crate) fn sum_lanes(lanes: [f64; LANES]) -> f64 {
    lanes.into_iter().sum()
}

/// The largest of the lanes, which are at least 0 and never NaN.
pub(crate) fn max_lane(lanes: [f64; LANES]) -> f64 {
    lanes.into_iter().fold(0.0, larger)
}

/// The larger of two numbers that are not NaN. Unlike `f64::max` it is one instruction.
pub(crate) fn larger(left: f64, right: f64) -> f64 {
    if left > right { left } else { right }
}
