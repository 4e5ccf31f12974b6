//! How far submitted weights are from the reference's.
//!
//! The error relative to the update shows skipped work that the error relative to the weights
//! hides, because one training run moves the weights by a small part of their own size.

use serde::{Deserialize, Serialize};

use crate::blocks::{Block, LANES, Measure, larger, max_lane, measure_blocks, sum_lanes};
use crate::instructions::Instructions;
use crate::tensor::{CompareError, Operand, TensorBytes, common_element_count};

/// What was measured over one tensor, or by [`merge`](Self::merge) over several.
///
/// `w` is the submission's value of an element, `w_ref` the reference's, `w_init` the one before
/// training. An element for which any of the three is not finite is counted in `elements` and in
/// `non_finite` or `non_finite_reference` (or both) and nowhere else, so all fields are finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightComparison {
    /// All elements, the non-finite ones too.
    pub elements: u64,
    /// Elements with `w != w_init`, compared by value: `-0.0` equals `0.0`, and the same number in
    /// another dtype is the same.
    pub changed: u64,
    /// Elements with `w_ref != w_init`, compared by value.
    pub reference_changed: u64,
    /// Elements that are NaN or infinite in the submission.
    pub non_finite: u64,
    /// Values that are NaN or infinite in the reference or in the initial weights: a fault that is
    /// not the submission's.
    pub non_finite_reference: u64,
    /// Sum of `(w - w_ref)²`.
    pub squared_error: f64,
    /// Sum of `w_ref²`.
    pub squared_reference: f64,
    /// Sum of `(w_ref - w_init)²`.
    pub squared_update: f64,
    /// Sum of `(w - w_init)²`.
    pub squared_submission_update: f64,
    /// The largest `|w - w_ref|`.
    pub max_abs_error: f64,
}

impl WeightComparison {
    /// The comparison of both sets of elements together. Sums are rounded, so merging in another
    /// order may change their last bits.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            elements: self.elements + other.elements,
            changed: self.changed + other.changed,
            reference_changed: self.reference_changed + other.reference_changed,
            non_finite: self.non_finite + other.non_finite,
            non_finite_reference: self.non_finite_reference + other.non_finite_reference,
            squared_error: self.squared_error + other.squared_error,
            squared_reference: self.squared_reference + other.squared_reference,
            squared_update: self.squared_update + other.squared_update,
            squared_submission_update: self.squared_submission_update
                + other.squared_submission_update,
            max_abs_error: larger(self.max_abs_error, other.max_abs_error),
        }
    }

    /// Whether every element of all three tensors is finite.
    #[must_use]
    pub fn all_finite(&self) -> bool {
        self.non_finite == 0 && self.non_finite_reference == 0
    }

    /// `‖w - w_ref‖ / ‖w_ref‖`; 0 for 0/0, infinity for anything else over 0 and whenever an
    /// element is not finite. Never NaN.
    #[must_use]
    pub fn weight_relative_error(&self) -> f64 {
        self.relative_error(self.squared_reference)
    }

    /// `‖Δw - Δw_ref‖ / ‖Δw_ref‖` with `Δw = w - w_init`, which is
    /// `‖w - w_ref‖ / ‖w_ref - w_init‖`; 0 for 0/0, infinity for anything else over 0 and whenever
    /// an element is not finite. Never NaN.
    #[must_use]
    pub fn update_relative_error(&self) -> f64 {
        self.relative_error(self.squared_update)
    }

    /// The share of all elements that the submission changed, from 0 to 1; 0 when there are none.
    /// A non-finite element counts as not changed.
    #[must_use]
    pub fn changed_ratio(&self) -> f64 {
        share(self.changed, self.elements)
    }

    /// The share of all elements that the reference changed, from 0 to 1; 0 when there are none.
    #[must_use]
    pub fn reference_changed_ratio(&self) -> f64 {
        share(self.reference_changed, self.elements)
    }

    fn relative_error(&self, squared_norm: f64) -> f64 {
        if self.all_finite() {
            relative_error(self.squared_error, squared_norm)
        } else {
            f64::INFINITY
        }
    }
}

/// Measures initial, reference and submitted weights, in this order.
struct MeasureWeights;

impl Measure<3> for MeasureWeights {
    type Measured = WeightComparison;

    #[inline(always)]
    fn measure(&self, block: &Block<3>) -> WeightComparison {
        let [initial, reference, submission] = block.groups();
        let mut changed = [0_u32; LANES];
        let mut reference_changed = [0_u32; LANES];
        let mut squared_error = [0.0; LANES];
        let mut squared_reference = [0.0; LANES];
        let mut squared_update = [0.0; LANES];
        let mut squared_submission_update = [0.0; LANES];
        let mut max_abs_error = [0.0; LANES];
        for ((initial, reference), submission) in initial.iter().zip(reference).zip(submission) {
            for lane in 0..LANES {
                changed[lane] += u32::from(submission[lane] != initial[lane]);
                reference_changed[lane] += u32::from(reference[lane] != initial[lane]);
                let initial = f64::from(initial[lane]);
                let reference = f64::from(reference[lane]);
                let submission = f64::from(submission[lane]);
                let error = submission - reference;
                let update = reference - initial;
                let submission_update = submission - initial;
                squared_error[lane] += error * error;
                squared_reference[lane] += reference * reference;
                squared_update[lane] += update * update;
                squared_submission_update[lane] += submission_update * submission_update;
                max_abs_error[lane] = larger(max_abs_error[lane], error.abs());
            }
        }
        let [non_finite_initial, non_finite_reference, non_finite] = block.non_finite;
        WeightComparison {
            elements: block.elements(),
            changed: sum_counts(changed),
            reference_changed: sum_counts(reference_changed),
            non_finite,
            non_finite_reference: non_finite_initial + non_finite_reference,
            squared_error: sum_lanes(squared_error),
            squared_reference: sum_lanes(squared_reference),
            squared_update: sum_lanes(squared_update),
            squared_submission_update: sum_lanes(squared_submission_update),
            max_abs_error: max_lane(max_abs_error),
        }
    }

    #[inline(always)]
    fn is_finite(measured: &WeightComparison) -> bool {
        // Each tensor is in at least one of these.
        (measured.squared_error + measured.squared_reference + measured.squared_update).is_finite()
    }

    #[inline(always)]
    fn merge(first: WeightComparison, second: WeightComparison) -> WeightComparison {
        first.merge(second)
    }
}

/// Measures how far `submission` is from `reference`, which training made from `initial`. The
/// three may differ in dtype.
///
/// # Errors
///
/// When the tensors differ in their number of elements or hold a part of an element.
pub fn compare_weights(
    initial: TensorBytes<'_>,
    reference: TensorBytes<'_>,
    submission: TensorBytes<'_>,
) -> Result<WeightComparison, CompareError> {
    let elements = common_element_count(&[
        (Operand::Initial, initial),
        (Operand::Reference, reference),
        (Operand::Submission, submission),
    ])?;
    Ok(measure_blocks(
        Instructions::widest(),
        &[initial, reference, submission],
        elements,
        &MeasureWeights,
    ))
}

/// The root of the quotient of two sums of squares; 0 for 0/0, infinity for anything else over 0.
pub(crate) fn relative_error(squared_error: f64, squared_norm: f64) -> f64 {
    if squared_error == 0.0 {
        0.0
    } else {
        squared_error.sqrt() / squared_norm.sqrt()
    }
}

#[inline(always)]
fn sum_counts(lanes: [u32; LANES]) -> u64 {
    lanes.into_iter().map(u64::from).sum()
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::MeasureWeights;
    use crate::blocks::measure_blocks;
    use crate::instructions::Instructions;
    use crate::tensor::{Dtype, TensorBytes};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_set_of_instructions_gives_the_same_bits(
            elements in prop_oneof![0_usize..40, 2_000_usize..2_100, 65_000_usize..66_000],
            dtypes in vec(prop::sample::select(vec![Dtype::F32, Dtype::BF16, Dtype::F16]), 3),
            offset in 0_usize..4,
            seed in any::<u64>(),
            finite in any::<bool>(),
        ) {
            let tensors: Vec<Vec<u8>> = (0_u64..3)
                .map(|salt| scattered(elements * 4 + offset, seed ^ salt, finite))
                .collect();
            let tensors = [0, 1, 2].map(|index: usize| TensorBytes {
                dtype: dtypes[index],
                bytes: &tensors[index][offset..][..elements * dtypes[index].size_in_bytes()],
            });
            let results: Vec<_> = Instructions::available()
                .into_iter()
                .map(|set| measure_blocks(set, &tensors, elements, &MeasureWeights))
                .collect();
            for result in &results[1..] {
                prop_assert_eq!(result, &results[0]);
            }
        }
    }

    /// Bytes of any value, of which no element of any dtype is a NaN or an infinity if `finite`.
    fn scattered(length: usize, mut state: u64, finite: bool) -> Vec<u8> {
        (0..length)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let [.., byte] = state.to_le_bytes();
                if finite { byte & 0xbb } else { byte }
            })
            .collect()
    }
}
