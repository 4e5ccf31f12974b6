//! The values that the reference recorded at sampled positions, and sums over them.
//!
//! Kept in their own dtype, as they were recorded: the updates are made of them, stretch by stretch,
//! each time that they are needed.

use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;

use crate::attribution::AttributionError;
use crate::blocks::{LANES, sum_lanes};
use crate::tensor::{Dtype, Operand, TensorBytes};

/// Elements of one tensor that are widened at a time: 200 steps of them take 400 KiB.
const STRETCH_ELEMENTS: usize = 256;

/// The least number of stretches that one thread takes at a time.
const STRETCHES_PER_PART: usize = 64;

/// The largest number of partial results, each of which may be a matrix of steps by steps.
const PARTS_MAX: usize = 64;

/// One tensor as the reference recorded it at sampled positions.
#[derive(Clone, Debug)]
pub struct SampledTensor<'a> {
    /// How many elements the whole tensor has.
    pub population: u64,
    /// Whether the tensor takes part in the least squares and in the errors of all tensors together.
    /// One whose honest noise is as large as its update, such as a bias without a gradient, only
    /// disturbs them; its own error is measured all the same.
    pub attributed: bool,
    /// The values at the sampled positions before the first step and after each.
    pub states: Vec<TensorBytes<'a>>,
}

/// All tensors that were sampled.
pub(crate) struct Samples {
    pub(crate) tensors: Vec<RecordedTensor>,
    pub(crate) steps: usize,
    /// Of the attributed tensors, from the first to the last.
    stretches: Vec<Stretch>,
}

/// A tensor's states, owned.
pub(crate) struct RecordedTensor {
    sampled: usize,
    pub(crate) population: u64,
    pub(crate) attributed: bool,
    states: Vec<(Dtype, Vec<u8>)>,
}

/// Neighbouring elements of an attributed tensor.
#[derive(Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) tensor: usize,
    start: usize,
    length: usize,
}

/// One number for each element of a stretch; those past its end are zero.
pub(crate) type StretchValues = [f64; STRETCH_ELEMENTS];

impl RecordedTensor {
    fn new(tensor: usize, sample: &SampledTensor<'_>) -> Result<Self, AttributionError> {
        let mut sampled = None;
        for (state, values) in sample.states.iter().enumerate() {
            let found = values.element_count(Operand::Reference).map_err(|source| {
                AttributionError::State {
                    tensor,
                    state,
                    source,
                }
            })?;
            let expected = *sampled.get_or_insert(found);
            if found != expected {
                return Err(AttributionError::StateLength {
                    tensor,
                    state,
                    found,
                    expected,
                });
            }
            if !values.all_finite() {
                return Err(AttributionError::ReferenceNotFinite { tensor, state });
            }
        }
        let sampled = sampled.unwrap_or(0);
        let population = sample.population;
        if sampled as u64 > population || (sampled == 0 && population > 0) {
            return Err(AttributionError::SampleSize {
                tensor,
                sampled: sampled as u64,
                population,
            });
        }
        Ok(Self {
            sampled,
            population,
            attributed: sample.attributed,
            states: sample
                .states
                .iter()
                .map(|state| (state.dtype, state.bytes.to_vec()))
                .collect(),
        })
    }

    pub(crate) fn state(&self, state: usize) -> TensorBytes<'_> {
        let (dtype, bytes) = &self.states[state];
        TensorBytes {
            dtype: *dtype,
            bytes,
        }
    }

    /// How many elements each sampled one stands for.
    pub(crate) fn weight(&self) -> f64 {
        if self.sampled == 0 {
            0.0
        } else {
            self.population as f64 / self.sampled as f64
        }
    }
}

impl Samples {
    pub(crate) fn new(tensors: &[SampledTensor<'_>]) -> Result<Self, AttributionError> {
        let expected = tensors
            .first()
            .ok_or(AttributionError::NoTensor)?
            .states
            .len();
        if expected < 2 {
            return Err(AttributionError::NoStep {
                tensor: 0,
                states: expected,
            });
        }
        let mut recorded = Vec::with_capacity(tensors.len());
        for (tensor, sample) in tensors.iter().enumerate() {
            let found = sample.states.len();
            if found != expected {
                return Err(AttributionError::StateCount {
                    tensor,
                    found,
                    expected,
                });
            }
            recorded.push(RecordedTensor::new(tensor, sample)?);
        }
        Ok(Self {
            stretches: cut(&recorded),
            tensors: recorded,
            steps: expected - 1,
        })
    }

    /// How many equally weighted elements would give estimates as good as the attributed sample
    /// does (Kish's effective sample size).
    pub(crate) fn effective_size(&self) -> f64 {
        let mut weights = 0.0;
        let mut squared_weights = 0.0;
        for tensor in self.tensors.iter().filter(|tensor| tensor.attributed) {
            weights += tensor.population as f64;
            squared_weights += tensor.population as f64 * tensor.weight();
        }
        if squared_weights == 0.0 {
            0.0
        } else {
            weights * weights / squared_weights
        }
    }

    /// Adds up `terms` numbers over all stretches: `add` gets the updates of each step in a
    /// stretch. The parts that threads take depend only on the number of stretches, and are
    /// combined in order.
    pub(crate) fn sum_stretches(
        &self,
        terms: usize,
        add: impl Fn(Stretch, &[StretchValues], &mut [f64]) + Sync,
    ) -> Vec<f64> {
        let part = STRETCHES_PER_PART.max(self.stretches.len().div_ceil(PARTS_MAX));
        let parts: Vec<Vec<f64>> = self
            .stretches
            .par_chunks(part)
            .map(|stretches| {
                let mut sums = vec![0.0; terms];
                let mut updates = vec![[0.0; STRETCH_ELEMENTS]; self.steps];
                for &stretch in stretches {
                    self.load_updates(stretch, &mut updates);
                    add(stretch, &updates, &mut sums);
                }
                sums
            })
            .collect();
        let mut total = vec![0.0; terms];
        for sums in parts {
            for (total, sum) in total.iter_mut().zip(sums) {
                *total += sum;
            }
        }
        total
    }

    /// The reference's update in each step.
    fn load_updates(&self, stretch: Stretch, updates: &mut [StretchValues]) {
        let recorded = &self.tensors[stretch.tensor];
        let mut before = widened(stretch, &recorded.state(0));
        for (step, update) in updates.iter_mut().enumerate() {
            let after = widened(stretch, &recorded.state(step + 1));
            for ((update, before), after) in update.iter_mut().zip(&before).zip(&after) {
                *update = f64::from(*after) - f64::from(*before);
            }
            before = after;
        }
    }

    /// What `values` are away from the initial ones.
    pub(crate) fn change(&self, stretch: Stretch, values: &TensorBytes<'_>) -> StretchValues {
        let initial = widened(stretch, &self.tensors[stretch.tensor].state(0));
        let values = widened(stretch, values);
        std::array::from_fn(|element| f64::from(values[element]) - f64::from(initial[element]))
    }
}

fn cut(tensors: &[RecordedTensor]) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    for (tensor, recorded) in tensors.iter().enumerate() {
        if recorded.attributed {
            stretches.extend(
                (0..recorded.sampled)
                    .step_by(STRETCH_ELEMENTS)
                    .map(|start| Stretch {
                        tensor,
                        start,
                        length: STRETCH_ELEMENTS.min(recorded.sampled - start),
                    }),
            );
        }
    }
    stretches
}

fn widened(stretch: Stretch, values: &TensorBytes<'_>) -> [f32; STRETCH_ELEMENTS] {
    let mut widened = [0.0; STRETCH_ELEMENTS];
    values.widen_into(stretch.start, &mut widened[..stretch.length]);
    widened
}

/// The sum of the products of the elements.
pub(crate) fn dot(left: &StretchValues, right: &StretchValues) -> f64 {
    let mut lanes = [0.0; LANES];
    for (left, right) in left
        .as_chunks::<LANES>()
        .0
        .iter()
        .zip(right.as_chunks::<LANES>().0)
    {
        for lane in 0..LANES {
            lanes[lane] += left[lane] * right[lane];
        }
    }
    sum_lanes(lanes)
}
