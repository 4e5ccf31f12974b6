//! Whether two tensors agree within a tolerance, element by element.

use serde::{Deserialize, Serialize};

use crate::blocks::{Block, LANES, Measure, larger, max_lane, measure_blocks, sum_lanes};
use crate::instructions::Instructions;
use crate::tensor::{CompareError, Operand, TensorBytes, common_element_count};

/// What was measured over one pair of tensors. All fields are finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValueComparison {
    /// All elements, the non-finite ones too.
    pub elements: u64,
    /// Elements that are NaN or infinite in either tensor. They are left out of the differences.
    pub non_finite: u64,
    /// The largest `|actual - expected|`.
    pub max_abs_difference: f64,
    /// The mean of `|actual - expected|` over the finite elements; 0 when there are none.
    pub mean_abs_difference: f64,
    /// Elements beyond the tolerance, and all the non-finite ones: two equal infinities are a
    /// violation too, unlike in `torch.allclose`.
    pub violations: u64,
}

impl ValueComparison {
    /// Whether no element is beyond the tolerance and all are finite.
    #[must_use]
    pub fn within_tolerance(&self) -> bool {
        self.violations == 0
    }
}

/// Compares `actual` with `expected`, which may differ in dtype. An element is within the
/// tolerance when `|actual - expected| <= atol + rtol * |expected|`.
///
/// # Errors
///
/// When the tensors differ in their number of elements or hold a part of an element, or when a
/// tolerance is negative or not finite.
pub fn compare_values(
    expected: TensorBytes<'_>,
    actual: TensorBytes<'_>,
    atol: f64,
    rtol: f64,
) -> Result<ValueComparison, CompareError> {
    for (name, value) in [("atol", atol), ("rtol", rtol)] {
        if !(value.is_finite() && value >= 0.0) {
            return Err(CompareError::Tolerance { name, value });
        }
    }
    let elements =
        common_element_count(&[(Operand::Expected, expected), (Operand::Actual, actual)])?;
    let total = measure_blocks(
        Instructions::widest(),
        &[expected, actual],
        elements,
        &MeasureDifferences { atol, rtol },
    );
    let finite = total.elements - total.non_finite;
    Ok(ValueComparison {
        elements: total.elements,
        non_finite: total.non_finite,
        max_abs_difference: total.max,
        mean_abs_difference: if finite == 0 {
            0.0
        } else {
            total.sum / finite as f64
        },
        violations: total.beyond_tolerance + total.non_finite,
    })
}

/// The absolute differences over some of the elements.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Differences {
    elements: u64,
    non_finite: u64,
    beyond_tolerance: u64,
    sum: f64,
    max: f64,
}

/// Measures expected and actual values, in this order.
struct MeasureDifferences {
    atol: f64,
    rtol: f64,
}

impl Measure<2> for MeasureDifferences {
    type Measured = Differences;

    #[inline(always)]
    fn measure(&self, block: &Block<2>) -> Differences {
        let Self { atol, rtol } = *self;
        let [expected, actual] = block.groups();
        let mut beyond_tolerance = [0_u64; LANES];
        let mut sum = [0.0; LANES];
        let mut max = [0.0; LANES];
        for (expected, actual) in expected.iter().zip(actual) {
            for lane in 0..LANES {
                let expected = f64::from(expected[lane]);
                let difference = (f64::from(actual[lane]) - expected).abs();
                beyond_tolerance[lane] += u64::from(difference > atol + rtol * expected.abs());
                sum[lane] += difference;
                max[lane] = larger(max[lane], difference);
            }
        }
        Differences {
            elements: block.elements(),
            non_finite: block.excluded,
            beyond_tolerance: beyond_tolerance.into_iter().sum(),
            sum: sum_lanes(sum),
            max: max_lane(max),
        }
    }

    #[inline(always)]
    fn is_finite(measured: &Differences) -> bool {
        measured.sum.is_finite()
    }

    #[inline(always)]
    fn merge(first: Differences, second: Differences) -> Differences {
        Differences {
            elements: first.elements + second.elements,
            non_finite: first.non_finite + second.non_finite,
            beyond_tolerance: first.beyond_tolerance + second.beyond_tolerance,
            sum: first.sum + second.sum,
            max: larger(first.max, second.max),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::MeasureDifferences;
    use crate::blocks::measure_blocks;
    use crate::instructions::Instructions;
    use crate::tensor::{Dtype, TensorBytes};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_set_of_instructions_gives_the_same_bits(
            bytes in vec(any::<[u8; 4]>(), 0..9_000),
            dtype in prop::sample::select(vec![Dtype::F32, Dtype::BF16, Dtype::F16]),
            atol in prop::sample::select(vec![0.0, 1e-3, 1e3]),
        ) {
            let elements = bytes.len() / 2;
            let bytes = bytes.as_flattened();
            let size = elements * dtype.size_in_bytes();
            let tensors = [&bytes[..size], &bytes[bytes.len() - size..]]
                .map(|bytes| TensorBytes { dtype, bytes });
            let measure = MeasureDifferences { atol, rtol: 0.1 };
            let results: Vec<_> = Instructions::available()
                .into_iter()
                .map(|set| measure_blocks(set, &tensors, elements, &measure))
                .collect();
            for result in &results[1..] {
                prop_assert_eq!(result, &results[0]);
            }
        }
    }
}
