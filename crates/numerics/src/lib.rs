//! Comparison of tensors given as bytes.
//!
//! [`compare_weights`] tells how far submitted weights are from the reference, relative to the
//! weights and relative to the update that training made. [`compare_values`] compares two tensors
//! such as logits under the rule of `torch.allclose`. [`StepBasis`] tells which step of the
//! reference did how much of a submission's update, from sampled weights. [`SafeTensors`] finds
//! the tensors in a file that a stranger wrote.
//!
//! What holds for the two comparisons:
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
//! This crate opens no files, knows nothing of torch or processes, and never judges: it measures.

mod attribution;
mod blocks;
mod conditioning;
mod instructions;
mod least_squares;
mod safetensors;
mod samples;
mod tensor;
mod values;
mod weights;

pub use attribution::{Attribution, AttributionError, StepBasis, TensorUpdate};
pub use blocks::CHUNK_ELEMENTS;
pub use conditioning::{
    Conditioning, DEFAULT_ADMITTED_ERROR, EXPECTED_DEVIATION_MAX, Obstacle, StepConditioning,
    VARIANCE_INFLATION_CEILING,
};
pub use safetensors::{ElementType, HEADER_BYTES_MAX, SafeTensors, SafeTensorsError, StoredTensor};
pub use samples::SampledTensor;
pub use tensor::{CompareError, Dtype, Operand, TensorBytes};
pub use values::{ValueComparison, compare_values};
pub use weights::{WeightComparison, compare_weights};
