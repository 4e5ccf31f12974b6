//! What is asked of the final weights: what nobody can foresee, drawn from the run's seed, and told
//! to the worker when it has said that training is done.
//!
//! It has two parts. The first is a sample: the exact values of elements at secret positions. It is
//! stratified: every tensor is in it, small ones whole; sums over a tensor's sample stand for sums
//! over the tensor when they are multiplied with its share. It shows each step's part in the update.
//!
//! Who knows the positions can compute these elements alone: the last step's gradients of a matrix
//! are as cheap at some places as they are dear at all. So the second part is a sketch of each tensor
//! that is not in the sample whole: l @ W @ r for pairs of vectors of random signs. The error of such
//! a product has the variance ‖W - W_ref‖² (Johnson and Lindenstrauss; Alon, Matias and Szegedy 1999
//! for signs), and every element of W is in it, behind an optimizer that is not linear.

use crate::layout::{Layout, LayoutError};
use crate::plan::Seed;
use crate::protocol::{Asked, SketchSlot, TensorDescription};

/// Elements of a tensor that are in the sample at least, or all that it has. With fewer than some
/// thousands the error of a tensor says little.
const LEAST_PER_TENSOR: u64 = 4096;

/// Elements of a model that are in the sample at least, or all that it has. detection.md: the part of
/// each step is found well from 100,000 elements, at the margin from 10,000, and not from 2,000.
const LEAST_IN_ALL: u64 = 256_000;

/// Products in the sketch of one tensor. Their mean square scatters about the squared error by 0.7 of it
/// at most (an error of rank one), and by a third for one that is spread; several tensors help.
const PROJECTIONS: u64 = 16;

/// What is asked in every run of a model, where the answer lies, and how large the tensors are; all
/// but the positions and the signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionShape {
    populations: Vec<u64>,
    counts: Vec<u64>,
    sketched: Vec<SketchSlot>,
    layout: Layout,
}

impl QuestionShape {
    /// The shape for a model whose tensors are `tensors`, laid out as `whole`; an answer ends with
    /// `logit_rows` rows of `vocabulary` logits.
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
        let mut parts: Vec<TensorDescription> = tensors
            .iter()
            .zip(&counts)
            .map(|(tensor, count)| TensorDescription {
                shape: vec![*count],
                ..tensor.clone()
            })
            .collect();
        let partly = |index: &usize| counts[*index] < populations[*index];
        let large: Vec<usize> = (0..tensors.len()).filter(partly).collect();
        parts.extend(large.iter().map(|index| TensorDescription {
            dtype: "float32".to_owned(),
            shape: vec![PROJECTIONS],
            ..tensors[*index].clone()
        }));
        let layout = Layout::new(&parts, logit_rows, vocabulary)?;
        let sketched = large
            .iter()
            .zip(&layout.slots()[tensors.len()..])
            .map(|(index, slot)| {
                let rows = tensors[*index].shape.first().copied().unwrap_or(1);
                SketchSlot {
                    tensor: *index,
                    rows,
                    // Neither is 0: the tensor has elements that are not in the sample.
                    columns: populations[*index] / rows.max(1),
                    offset: slot.offset,
                }
            })
            .collect();
        Ok(Self {
            populations,
            counts,
            sketched,
            layout,
        })
    }

    /// Number of elements of each tensor.
    #[must_use]
    pub fn populations(&self) -> &[u64] {
        &self.populations
    }

    /// The tensors that are sketched. The sketch of number `i` is tensor number
    /// `populations().len() + i` of the layout.
    #[must_use]
    pub fn sketched(&self) -> &[SketchSlot] {
        &self.sketched
    }

    /// Where the chosen elements of each tensor, the sketches and the logits lie.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Number of chosen elements.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What a worker is told before the runs.
    #[must_use]
    pub fn asked(&self) -> Asked<'_> {
        let [sketch_rows, sketch_columns] = self.sign_rows();
        Asked {
            sampled: &self.layout.slots()[..self.populations.len()],
            sketched: &self.sketched,
            projections: PROJECTIONS,
            sketch_rows,
            sketch_columns,
        }
    }

    /// Size of a question in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let signs: u64 = self.sign_rows().iter().sum::<u64>() * PROJECTIONS;
        let bytes = self.elements() * size_of::<i64>() as u64 + signs;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Rows of the left and of the right signs: enough for the largest matrix.
    fn sign_rows(&self) -> [u64; 2] {
        let largest = |extent: fn(&SketchSlot) -> u64| {
            self.sketched.iter().map(extent).max().unwrap_or_default()
        };
        [largest(|slot| slot.rows), largest(|slot| slot.columns)]
    }

    /// The question that `seed` gives.
    #[must_use]
    pub fn draw(&self, seed: Seed) -> Question {
        let signs: u64 = self.sign_rows().iter().sum::<u64>() * PROJECTIONS;
        Question {
            positions: (0_u32..)
                .zip(self.populations.iter().zip(&self.counts))
                .map(|(tensor, (population, count))| seed.positions(tensor, *count, *population))
                .collect(),
            signs: seed.signs(usize::try_from(signs).unwrap_or(usize::MAX)),
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

/// What is asked in one run.
#[derive(Clone, PartialEq, Eq)]
pub struct Question {
    /// Positions in each flattened tensor, ascending.
    positions: Vec<Vec<u64>>,
    /// 1 and -1 as bytes: the left signs, row by row, and then the right ones.
    signs: Vec<u8>,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It is secret until its run has ended.
        formatter.debug_struct("Question").finish_non_exhaustive()
    }
}

impl Question {
    /// The question as a worker gets it: positions as 64-bit little-endian numbers, tensor after
    /// tensor, and then the signs.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let positions = self.positions.iter().flatten();
        positions
            .flat_map(|position| position.to_le_bytes())
            .chain(self.signs.iter().copied())
            .collect()
    }

    /// The chosen elements of a whole state that is laid out as `whole`, laid out as `chosen`; without
    /// sketches and logits, which are left zero.
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
    use super::{LEAST_IN_ALL, PROJECTIONS, QuestionShape, allocate};
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
        let shape = QuestionShape::new(&tensors, &whole, 3, 10).unwrap();
        let question = shape.draw(SEED);
        for (positions, population) in question.positions.iter().zip(shape.populations()) {
            assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(positions.iter().all(|position| position < population));
        }
        assert_eq!(question.positions[0], [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(question.to_bytes().len(), shape.bytes());
        assert_ne!(shape.draw(Seed::from_bytes([6; 32])), question);
        assert_eq!(shape.draw(SEED), question);
    }

    #[test]
    fn what_is_gathered_are_the_chosen_elements() {
        let tensors = tensors(&[9_000, 300_000]);
        let whole = Layout::new(&tensors, 0, 0).unwrap();
        let shape = QuestionShape::new(&tensors, &whole, 2, 5).unwrap();
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
        let question = shape.draw(SEED);
        let chosen = question.gather(&whole, &state, shape.layout());
        let found = shape.layout().tensor(&chosen, 0).bytes.as_chunks::<4>().0;
        assert!(
            found
                .iter()
                .zip(&question.positions[0])
                .all(|(value, position)| u64::from(u32::from_le_bytes(*value)) == *position)
        );
        let found = shape.layout().tensor(&chosen, 1).bytes.as_chunks::<2>().0;
        assert_eq!(found.len(), question.positions[1].len());
        assert!(
            found
                .iter()
                .zip(&question.positions[1])
                .all(|(value, position)| u64::from(u16::from_le_bytes(*value)) == position % 65_536)
        );
    }

    #[test]
    fn debug_output_does_not_show_positions() {
        let tensors = tensors(&[100]);
        let whole = Layout::new(&tensors, 0, 0).unwrap();
        let shape = QuestionShape::new(&tensors, &whole, 0, 0).unwrap();
        assert_eq!(format!("{:?}", shape.draw(SEED)), "Question { .. }");
    }

    #[test]
    fn what_is_not_in_the_sample_whole_is_sketched_behind_it() {
        let mut tensors = tensors(&[4096, 300_000, 5_000]);
        tensors[1].shape = vec![300, 20, 50];
        let whole = Layout::new(&tensors, 0, 0).unwrap();
        let shape = QuestionShape::new(&tensors, &whole, 2, 5).unwrap();
        let slots: Vec<_> = shape
            .sketched()
            .iter()
            .map(|slot| (slot.tensor, slot.rows, slot.columns))
            .collect();
        assert_eq!(slots, [(1, 300, 1000), (2, 5_000, 1)]);
        for (index, slot) in shape.sketched().iter().enumerate() {
            let place = shape.populations().len() + index;
            assert_eq!(shape.layout().offset(place) as u64, slot.offset);
            assert_eq!(shape.layout().slots()[place].shape, [PROJECTIONS]);
        }
        let asked = shape.asked();
        assert_eq!((asked.sketch_rows, asked.sketch_columns), (5_000, 1_000));
        let signs = shape.draw(SEED).signs;
        assert_eq!(signs.len(), 6_000 * 16);
        let minus = signs.iter().filter(|sign| **sign == 0xff).count();
        let plus = signs.iter().filter(|sign| **sign == 1).count();
        assert_eq!(minus + plus, signs.len());
        assert!(minus.abs_diff(plus) < 2_000, "{minus} {plus}");
    }
}
