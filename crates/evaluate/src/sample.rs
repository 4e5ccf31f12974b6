//! The elements of the weights that a run is judged by: positions that nobody can foresee, drawn
//! from the run's seed, and told to the worker when it has said that training is done.
//!
//! The sample is stratified: every tensor is in it, small ones whole. Sums over a tensor's sample
//! stand for sums over the tensor when they are multiplied with its share.

use crate::layout::{Layout, LayoutError};
use crate::plan::Seed;
use crate::protocol::TensorDescription;

/// Elements of a tensor that are in the sample at least, or all that it has. With fewer than some
/// thousands the error of a tensor says little.
const LEAST_PER_TENSOR: u64 = 4096;

/// Elements of a model that are in the sample at least, or all that it has. detection.md: the part of
/// each step is found well from 100,000 elements, at the margin from 10,000, and not from 2,000.
const LEAST_IN_ALL: u64 = 256_000;

/// How many elements of each tensor are in the sample, where they are laid out, and how large the
/// tensors are: what the samples of all runs have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleShape {
    populations: Vec<u64>,
    counts: Vec<u64>,
    layout: Layout,
}

impl SampleShape {
    /// The shape for a model whose tensors are `tensors`, laid out as `whole`; the layout of a sample
    /// ends with `logit_rows` rows of `vocabulary` logits.
    ///
    /// # Errors
    /// [`LayoutError`] for sizes beyond all reason.
    pub fn new(
        tensors: &[TensorDescription],
        whole: &Layout,
        logit_rows: usize,
        vocabulary: u64,
    ) -> Result<Self, LayoutError> {
        let populations = whole.elements();
        let counts = allocate(&populations);
        let chosen: Vec<TensorDescription> = tensors
            .iter()
            .zip(&counts)
            .map(|(tensor, count)| TensorDescription {
                shape: vec![*count],
                ..tensor.clone()
            })
            .collect();
        let layout = Layout::new(&chosen, logit_rows, vocabulary)?;
        Ok(Self {
            populations,
            counts,
            layout,
        })
    }

    /// Number of elements of each tensor.
    #[must_use]
    pub fn populations(&self) -> &[u64] {
        &self.populations
    }

    /// Where logits and the chosen elements of each tensor lie.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Number of chosen elements.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Size of a sample's positions in bytes.
    #[must_use]
    pub fn position_bytes(&self) -> usize {
        usize::try_from(self.elements()).map_or(usize::MAX, |count| count * size_of::<i64>())
    }

    /// The sample that `seed` gives.
    #[must_use]
    pub fn draw(&self, seed: Seed) -> Sample {
        Sample {
            positions: (0_u32..)
                .zip(self.populations.iter().zip(&self.counts))
                .map(|(tensor, (population, count))| seed.positions(tensor, *count, *population))
                .collect(),
        }
    }
}

/// How many elements of tensors of these sizes are chosen: the least of each, and where these are too
/// few in all, more of the large ones, in proportion to what is left of them.
fn allocate(populations: &[u64]) -> Vec<u64> {
    let least: Vec<u64> = populations
        .iter()
        .map(|population| LEAST_PER_TENSOR.min(*population))
        .collect();
    let missing = LEAST_IN_ALL.saturating_sub(least.iter().sum());
    let left: u64 = populations
        .iter()
        .zip(&least)
        .map(|(population, count)| population - count)
        .sum();
    populations
        .iter()
        .zip(&least)
        .map(|(population, count)| {
            let rest = u128::from(population - count);
            let more = (u128::from(missing) * rest).div_ceil(u128::from(left.max(1)));
            // The share is at most the rest, which is a 64-bit number, once it is bounded by it.
            count + u64::try_from(more.min(rest)).unwrap_or(0)
        })
        .collect()
}

/// Positions in each flattened tensor, ascending.
#[derive(Clone, PartialEq, Eq)]
pub struct Sample {
    positions: Vec<Vec<u64>>,
}

impl std::fmt::Debug for Sample {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Positions are secret until their run has ended.
        formatter.debug_struct("Sample").finish_non_exhaustive()
    }
}

impl Sample {
    /// The positions as a worker gets them: 64-bit little-endian numbers, tensor after tensor.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.positions
            .iter()
            .flatten()
            .flat_map(|position| position.to_le_bytes())
            .collect()
    }

    /// The chosen elements of a whole state that is laid out as `whole`, laid out as `chosen`, without
    /// logits.
    #[must_use]
    pub fn gather(&self, whole: &Layout, state: &[u8], chosen: &Layout) -> Vec<u8> {
        let mut gathered = vec![0; chosen.tensor_bytes()];
        for (index, positions) in self.positions.iter().enumerate() {
            let tensor = whole.tensor(state, index);
            let size = tensor.dtype.size_in_bytes();
            let start = chosen.offset(index);
            for (place, position) in gathered[start..].chunks_exact_mut(size).zip(positions) {
                // Positions are below the number of elements, which fits the address space.
                let from = usize::try_from(*position).unwrap_or(usize::MAX / size) * size;
                if let Some(value) = tensor.bytes.get(from..from + size) {
                    place.copy_from_slice(value);
                }
            }
        }
        gathered
    }
}

#[cfg(test)]
mod tests {
    use super::{LEAST_IN_ALL, SampleShape, allocate};
    use crate::layout::Layout;
    use crate::plan::Seed;
    use crate::protocol::TensorDescription;

    const SEED: Seed = Seed::from_bytes([5; 32]);

    fn tensors(sizes: &[u64]) -> Vec<TensorDescription> {
        sizes
            .iter()
            .enumerate()
            .map(|(index, size)| TensorDescription {
                name: index.to_string(),
                dtype: if index % 2 == 0 {
                    "float32"
                } else {
                    "bfloat16"
                }
                .to_owned(),
                shape: vec![*size],
                parameter: true,
            })
            .collect()
    }

    #[test]
    fn small_tensors_are_taken_whole_and_large_ones_in_proportion() {
        assert_eq!(allocate(&[10, 0, 4096]), [10, 0, 4096]);
        let counts = allocate(&[100, 1_000_000, 3_000_000]);
        assert_eq!(counts[0], 100);
        let total: u64 = counts.iter().sum();
        assert!((LEAST_IN_ALL..LEAST_IN_ALL + 3).contains(&total));
        let [small, large] = [counts[1] - 4096, counts[2] - 4096];
        assert!((2.9..3.1).contains(&(large as f64 / small as f64)));
        // A model that has fewer elements is taken whole; one with many tensors gives more.
        assert_eq!(allocate(&[100_000, 5]), [100_000, 5]);
        assert_eq!(allocate(&[1 << 40; 100]), [4096; 100]);
        assert_eq!(allocate(&[]), [0; 0]);
    }

    #[test]
    fn positions_are_different_ascending_and_there() {
        let tensors = tensors(&[7, 300_000, 0, 5_000]);
        let whole = Layout::new(&tensors, 0, 0).unwrap();
        let shape = SampleShape::new(&tensors, &whole, 3, 10).unwrap();
        let sample = shape.draw(SEED);
        for (positions, population) in sample.positions.iter().zip(shape.populations()) {
            assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(positions.iter().all(|position| position < population));
        }
        assert_eq!(sample.positions[0], [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(sample.to_bytes().len(), shape.position_bytes());
        assert_ne!(shape.draw(Seed::from_bytes([6; 32])), sample);
        assert_eq!(shape.draw(SEED), sample);
    }

    #[test]
    fn what_is_gathered_are_the_chosen_elements() {
        let tensors = tensors(&[9_000, 300_000]);
        let whole = Layout::new(&tensors, 0, 0).unwrap();
        let shape = SampleShape::new(&tensors, &whole, 2, 5).unwrap();
        let mut state = vec![0; whole.bytes()];
        for element in 0..9_000_u32 {
            let at = element as usize * 4;
            state[at..at + 4].copy_from_slice(&element.to_le_bytes());
        }
        let start = whole.offset(1);
        for element in 0..300_000_usize {
            let value = u16::try_from(element % 65_536).unwrap();
            state[start + 2 * element..][..2].copy_from_slice(&value.to_le_bytes());
        }
        let sample = shape.draw(SEED);
        let chosen = sample.gather(&whole, &state, shape.layout());
        let found = shape.layout().tensor(&chosen, 0).bytes.as_chunks::<4>().0;
        assert!(
            found
                .iter()
                .zip(&sample.positions[0])
                .all(|(value, position)| u64::from(u32::from_le_bytes(*value)) == *position)
        );
        let found = shape.layout().tensor(&chosen, 1).bytes.as_chunks::<2>().0;
        assert_eq!(found.len(), sample.positions[1].len());
        assert!(
            found
                .iter()
                .zip(&sample.positions[1])
                .all(|(value, position)| u64::from(u16::from_le_bytes(*value)) == position % 65_536)
        );
    }

    #[test]
    fn debug_output_does_not_show_positions() {
        let tensors = tensors(&[100]);
        let whole = Layout::new(&tensors, 0, 0).unwrap();
        let shape = SampleShape::new(&tensors, &whole, 0, 0).unwrap();
        assert_eq!(format!("{:?}", shape.draw(SEED)), "Sample { .. }");
    }
}
