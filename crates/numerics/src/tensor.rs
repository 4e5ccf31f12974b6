//! A tensor as the bytes that hold it, and its exact widening to `f32`.
//!
//! Bytes may start at any address: nothing here reinterprets them in place.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Elements that are widened at a time to see whether they are finite.
const FINITE_RUN: usize = 1024;

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dtype {
    /// IEEE 754 binary32.
    #[serde(rename = "float32")]
    F32,
    /// The upper half of a binary32.
    #[serde(rename = "bfloat16")]
    BF16,
    /// IEEE 754 binary16.
    #[serde(rename = "float16")]
    F16,
}

impl Dtype {
    /// Bytes that one element takes.
    #[must_use]
    pub const fn size_in_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::BF16 | Self::F16 => 2,
        }
    }

    /// The name that torch gives it, which is also its serialised form.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::BF16 => "bfloat16",
            Self::F16 => "float16",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A contiguous tensor in little-endian bytes, of any alignment. Its shape is the caller's matter.
#[derive(Clone, Copy, Debug)]
pub struct TensorBytes<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// All elements, one after the other.
    pub bytes: &'a [u8],
}

/// Which argument of a comparison an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The weights before training.
    Initial,
    /// The weights that the reference run ended with.
    Reference,
    /// The weights that the submission ended with.
    Submission,
    /// The values that are right.
    Expected,
    /// The values to be checked.
    Actual,
}

impl fmt::Display for Operand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Initial => "initial",
            Self::Reference => "reference",
            Self::Submission => "submission",
            Self::Expected => "expected",
            Self::Actual => "actual",
        })
    }
}

/// Why two tensors cannot be compared.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CompareError {
    /// The byte length is not a whole number of elements.
    #[error(
        "the {operand} tensor has {length} bytes, which is not a whole number of {dtype} elements"
    )]
    PartialElement {
        /// Which argument.
        operand: Operand,
        /// Its element type.
        dtype: Dtype,
        /// Its length in bytes.
        length: usize,
    },
    /// Two tensors differ in their number of elements.
    #[error(
        "the {operand} tensor has {found} elements but the {expected_operand} tensor has {expected}"
    )]
    ElementCount {
        /// The argument that differs.
        operand: Operand,
        /// Its number of elements.
        found: usize,
        /// The argument that it is measured against.
        expected_operand: Operand,
        /// The number of elements of that one.
        expected: usize,
    },
    /// A tolerance is negative, infinite or not a number, so it would pass nothing or everything.
    #[error("the tolerance {name} is {value}, but it must be finite and at least 0")]
    Tolerance {
        /// `atol` or `rtol`.
        name: &'static str,
        /// What was given.
        value: f64,
    },
}

impl TensorBytes<'_> {
    /// How many elements the bytes hold. Errors name the tensor as `operand`.
    pub(crate) fn element_count(&self, operand: Operand) -> Result<usize, CompareError> {
        let size = self.dtype.size_in_bytes();
        if !self.bytes.len().is_multiple_of(size) {
            return Err(CompareError::PartialElement {
                operand,
                dtype: self.dtype,
                length: self.bytes.len(),
            });
        }
        Ok(self.bytes.len() / size)
    }

    /// Whether no element is NaN or infinite. The bytes must hold whole elements.
    pub(crate) fn all_finite(&self) -> bool {
        let mut values = [0.0; FINITE_RUN];
        let elements = self.bytes.len() / self.dtype.size_in_bytes();
        (0..elements).step_by(FINITE_RUN).all(|start| {
            let values = &mut values[..FINITE_RUN.min(elements - start)];
            self.widen_into(start, values);
            values.iter().all(|value| value.is_finite())
        })
    }

    /// Has the processor fetch the elements from `start` on, as far as there are any, while it
    /// computes with others: what it foresees by itself ends with each page of memory.
    #[inline(always)]
    pub(crate) fn prefetch(&self, start: usize, length: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

            let size = self.dtype.size_in_bytes();
            let end = self.bytes.len().min((start + length) * size);
            for line in self
                .bytes
                .get(start * size..end)
                .unwrap_or_default()
                .chunks(64)
            {
                // SAFETY: a hint, which reads nothing, and the address is inside the slice.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
            }
        }
    }

    /// Widens the elements from `start` on into `values`, which must not reach past the end.
    #[inline(always)]
    pub(crate) fn widen_into(&self, start: usize, values: &mut [f32]) {
        let size = self.dtype.size_in_bytes();
        let bytes = &self.bytes[start * size..(start + values.len()) * size];
        match self.dtype {
            Dtype::F32 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            Dtype::BF16 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }
            }
            Dtype::F16 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                    *value = widen_half(u16::from_le_bytes(*bytes));
                }
            }
        }
    }
}

/// The value of a binary16. Written so that it becomes vector instructions of any kind: all
/// cases are computed and one is chosen, and no denormal is calculated with.
#[inline(always)]
fn widen_half(bits: u16) -> f32 {
    // Of the bias of an exponent: 127 in a binary32 and 15 in a binary16.
    const REBIAS: u32 = (127 - 15) << 23;
    const LEAST_NORMAL: u32 = 1 << 23;
    const INFINITE: u32 = 0x1f << 23;

    let magnitude = u32::from(bits & 0x7fff) << 13;
    let normal = f32::from_bits(magnitude + REBIAS);
    let denormal =
        f32::from_bits(magnitude + REBIAS + LEAST_NORMAL) - f32::from_bits(REBIAS + LEAST_NORMAL);
    let not_finite = f32::from_bits(magnitude | f32::INFINITY.to_bits());
    let value = if magnitude < LEAST_NORMAL {
        denormal
    } else if magnitude < INFINITE {
        normal
    } else {
        not_finite
    };
    f32::from_bits(value.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// The number of elements that all `tensors` have in common.
pub(crate) fn common_element_count<const N: usize>(
    tensors: &[(Operand, TensorBytes<'_>); N],
) -> Result<usize, CompareError> {
    let mut common = None;
    for (operand, tensor) in tensors {
        let found = tensor.element_count(*operand)?;
        match common {
            None => common = Some((*operand, found)),
            Some((expected_operand, expected)) if expected != found => {
                return Err(CompareError::ElementCount {
                    operand: *operand,
                    found,
                    expected_operand,
                    expected,
                });
            }
            Some(_) => {}
        }
    }
    Ok(common.map_or(0, |(_, count)| count))
}
