//! Whether two tensors agree within a tolerance, element by element.

use serde::{Deserialize, Serialize};

use crate::blocks::{Block, LANES, larger, max_lane, measure_blocks, sum_lanes};
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
        &[expected, actual],
        elements,
        |block| Differences::of_block(block, atol, rtol),
        Differences::merge,
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
#[derive(Clone, Copy, Default)]
struct Differences {
    elements: u64,
    non_finite: u64,
    beyond_tolerance: u64,
    sum: f64,
    max: f64,
}

impl Differences {
    fn of_block(block: &Block<2>, atol: f64, rtol: f64) -> Self {
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
        Self {
            elements: block.elements(),
            non_finite: block.excluded,
            beyond_tolerance: beyond_tolerance.into_iter().sum(),
            sum: sum_lanes(sum),
            max: max_lane(max),
        }
    }

    fn merge(self, other: Self) -> Self {
        Self {
            elements: self.elements + other.elements,
            non_finite: self.non_finite + other.non_finite,
            beyond_tolerance: self.beyond_tolerance + other.beyond_tolerance,
            sum: self.sum + other.sum,
            max: larger(self.max, other.max),
        }
    }
}
