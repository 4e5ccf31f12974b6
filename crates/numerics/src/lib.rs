//! Comparison of tensors given as bytes.
//!
//! [`compare_weights`] tells how far submitted weights are from the reference, relative to the
//! weights and relative to the update that training made. [`compare_values`] compares two tensors
//! such as logits under the rule of `torch.allclose`.
//!
//! What holds for both:
//!
//! - Values are widened exactly to `f32`, subtracted and summed in `f64`.
//! - The result depends only on the bytes: not on the number of threads, the alignment of the
//!   slices or the processor. The work is cut at fixed places and partial results are combined in
//!   order. They run on the rayon pool of the caller.
//! - Nothing is allocated in proportion to the tensors but one small partial result for every
//!   [64 Ki elements](CHUNK_ELEMENTS).
//! - A NaN or an infinity never makes a check pass. An element that is not finite in any of the
//!   tensors is counted and left out of all other counts and sums, so every field of a result is
//!   finite; the methods that a limit is compared with then answer infinity.
//!
//! This crate knows nothing of files, torch or processes, and never judges: it measures.

mod attribution;
mod blocks;
mod instructions;
mod least_squares;
mod safetensors;
mod tensor;
mod values;
mod weights;

pub use attribution::{
    Attribution, AttributionError, Conditioning, DEFAULT_ADMITTED_ERROR, EXPECTED_DEVIATION_MAX,
    Obstacle, SampledTensor, StepBasis, StepConditioning, TensorUpdate, VARIANCE_INFLATION_CEILING,
};
pub use blocks::CHUNK_ELEMENTS;
pub use safetensors::{ElementType, HEADER_BYTES_MAX, SafeTensors, SafeTensorsError, StoredTensor};
pub use tensor::{CompareError, Dtype, Operand, TensorBytes};
pub use values::{ValueComparison, compare_values};
pub use weights::{WeightComparison, compare_weights};
