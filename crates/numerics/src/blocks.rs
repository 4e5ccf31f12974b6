//! Cutting tensors at fixed places, spreading the pieces over threads and combining the partial
//! results in order.
//!
//! A chunk is what one thread takes; a block is what is widened at once and stays in the first
//! cache. Neither depends on the number of threads, so neither does any sum.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::instructions::{Instructions, Kernel};
use crate::tensor::TensorBytes;

/// Elements that one thread takes at a time.
pub const CHUNK_ELEMENTS: usize = 64 * 1024;

/// Elements widened at a time. Few, so that reading the next block and computing with this one
/// overlap: with 2048 a comparison reached half of the memory bandwidth, with these two thirds.
const BLOCK_ELEMENTS: usize = 512;

/// Independent sums that a loop over a block keeps, so that it can be vectorised without
/// reordering: element `i` always goes to sum `i % LANES`.
pub(crate) const LANES: usize = 8;

/// The same stretch of `N` tensors, widened; the end of the last group is zero in all, which adds
/// nothing to a sum of differences or squares and counts as unchanged.
pub(crate) struct Block<const N: usize> {
    values: [[f32; BLOCK_ELEMENTS]; N],
    length: usize,
    /// For each tensor, how many of its own elements are not finite. Until they are excluded,
    /// none is counted.
    pub(crate) non_finite: [u64; N],
    /// How many elements are not finite in at least one tensor and were set to zero in all.
    pub(crate) excluded: u64,
}

/// What a comparison measures of a block, and how it puts blocks together.
pub(crate) trait Measure<const N: usize>: Sync {
    type Measured: Default + Send;

    /// Measures a block.
    fn measure(&self, block: &Block<N>) -> Self::Measured;

    /// Whether every element that went into `measured` was finite. Sums over one that is not are
    /// themselves not finite, so no pass over the elements is spent on looking for them.
    fn is_finite(measured: &Self::Measured) -> bool;

    /// What was measured of two neighbours, the first one first.
    fn merge(first: Self::Measured, second: Self::Measured) -> Self::Measured;
}

impl<const N: usize> Block<N> {
    #[inline(always)]
    fn load(&mut self, tensors: &[TensorBytes<'_>; N], start: usize, length: usize) {
        self.length = length;
        self.non_finite = [0; N];
        self.excluded = 0;
        for (tensor, values) in tensors.iter().zip(&mut self.values) {
            tensor.widen_into(start, &mut values[..length]);
            tensor.prefetch(start + BLOCK_ELEMENTS, BLOCK_ELEMENTS);
            values[length..length.next_multiple_of(LANES)].fill(0.0);
        }
    }

    /// Sets to zero in all tensors what is not finite in one, and counts it.
    #[cold]
    fn exclude_non_finite(&mut self) {
        for element in 0..self.length {
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
    #[inline(always)]
    pub(crate) fn groups(&self) -> [&[[f32; LANES]]; N] {
        self.values
            .each_ref()
            .map(|values| &values.as_chunks().0[..self.length.div_ceil(LANES)])
    }
}

/// The elements from `start` to `end`, block by block.
struct Chunk<'a, const N: usize, M> {
    tensors: &'a [TensorBytes<'a>; N],
    measure: &'a M,
    start: usize,
    end: usize,
}

impl<const N: usize, M: Measure<N>> Kernel for Chunk<'_, N, M> {
    type Output = M::Measured;

    #[inline(always)]
    fn run(self) -> M::Measured {
        let mut block = Block {
            values: [[0.0; BLOCK_ELEMENTS]; N],
            length: 0,
            non_finite: [0; N],
            excluded: 0,
        };
        let mut total = M::Measured::default();
        let mut start = self.start;
        while start < self.end {
            let length = BLOCK_ELEMENTS.min(self.end - start);
            block.load(self.tensors, start, length);
            let mut measured = self.measure.measure(&block);
            if !M::is_finite(&measured) {
                block.exclude_non_finite();
                measured = self.measure.measure(&block);
            }
            total = M::merge(total, measured);
            start += length;
        }
        total
    }
}

/// Measures every block of `tensors`, which have `elements` elements each, and merges the results
/// from first to last.
pub(crate) fn measure_blocks<const N: usize, M: Measure<N>>(
    instructions: Instructions,
    tensors: &[TensorBytes<'_>; N],
    elements: usize,
    measure: &M,
) -> M::Measured {
    let chunks: Vec<M::Measured> = (0..elements.div_ceil(CHUNK_ELEMENTS))
        .into_par_iter()
        .map(|chunk| {
            instructions.run(Chunk {
                tensors,
                measure,
                start: chunk * CHUNK_ELEMENTS,
                end: elements.min((chunk + 1) * CHUNK_ELEMENTS),
            })
        })
        .collect();
    chunks.into_iter().fold(M::Measured::default(), M::merge)
}

/// The sum of the lanes, always in the same order.
#[inline(always)]
pub(crate) fn sum_lanes(lanes: [f64; LANES]) -> f64 {
    lanes.into_iter().sum()
}

/// The largest of the lanes, which are at least 0 and never NaN.
#[inline(always)]
pub(crate) fn max_lane(lanes: [f64; LANES]) -> f64 {
    lanes.into_iter().fold(0.0, larger)
}

/// The larger of two numbers that are not NaN. Unlike `f64::max` it is one instruction.
#[inline(always)]
pub(crate) fn larger(left: f64, right: f64) -> f64 {
    if left > right { left } else { right }
}
