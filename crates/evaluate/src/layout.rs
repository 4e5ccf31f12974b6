//! Where tensors lie in shared memory: each tensor of the model, or the elements of it that were
//! chosen, and behind them rows of logits, if there are any.

use crusades_numerics::{Dtype, TensorBytes};
use thiserror::Error;

use crate::protocol::{Slot, TensorDescription};

/// Each part starts at a multiple of this many bytes: a cache line, and a multiple of every
/// element size.
const ALIGNMENT: u64 = 64;

/// Largest region that is laid out, in bytes (1 TiB): beyond it a description is an error.
const MAX_BYTES: u64 = 1 << 40;

/// Why a model's tensors cannot be laid out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// The dtype is not one that is compared.
    #[error("tensor `{name}` has dtype {dtype}; float32, bfloat16 and float16 are supported")]
    Dtype {
        /// The tensor.
        name: String,
        /// Its dtype.
        dtype: String,
    },
    /// The sizes make no sense.
    #[error("the tensors up to `{name}` need more than {MAX_BYTES} bytes")]
    TooLarge {
        /// The tensor with which the limit is passed.
        name: String,
    },
    /// There is nothing to train.
    #[error("the model has no tensors")]
    Empty,
}

/// The layout of one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    slots: Vec<Slot>,
    dtypes: Vec<Dtype>,
    sizes: Vec<usize>,
    tensor_bytes: usize,
    bytes: usize,
}

impl Layout {
    /// Lays out these tensors, and `logit_rows` rows of `vocabulary` float32 values.
    ///
    /// # Errors
    /// [`LayoutError`] for an unsupported dtype and for sizes beyond all reason.
    pub fn new(
        tensors: &[TensorDescription],
        logit_rows: usize,
        vocabulary: u64,
    ) -> Result<Self, LayoutError> {
        let last = tensors.last().ok_or(LayoutError::Empty)?;
        let bounded = |bytes: Option<u64>, name: &str| {
            bytes
                .filter(|bytes| *bytes <= MAX_BYTES)
                .ok_or_else(|| LayoutError::TooLarge {
                    name: name.to_owned(),
                })
        };
        let mut end = 0_u64;
        let mut slots = Vec::with_capacity(tensors.len());
        let mut dtypes = Vec::with_capacity(tensors.len());
        let mut sizes = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let dtype = dtype(&tensor.dtype).ok_or_else(|| LayoutError::Dtype {
                name: tensor.name.clone(),
                dtype: tensor.dtype.clone(),
            })?;
            let bytes = tensor
                .shape
                .iter()
                .try_fold(dtype.size_in_bytes() as u64, |product, extent| {
                    product.checked_mul(*extent)
                });
            let bytes = bounded(bytes, &tensor.name)?;
            let offset = end.next_multiple_of(ALIGNMENT);
            end = bounded(offset.checked_add(bytes), &tensor.name)?;
            slots.push(Slot {
                name: tensor.name.clone(),
                dtype: tensor.dtype.clone(),
                shape: tensor.shape.clone(),
                offset,
            });
            dtypes.push(dtype);
            sizes.push(to_usize(bytes));
        }
        let logits = end.next_multiple_of(ALIGNMENT);
        let logit_bytes = vocabulary.checked_mul(4 * logit_rows as u64);
        let end = logit_bytes.and_then(|bytes| logits.checked_add(bytes));
        Ok(Self {
            slots,
            dtypes,
            sizes,
            tensor_bytes: to_usize(logits),
            bytes: to_usize(bounded(end, &last.name)?),
        })
    }

    /// Size of the region.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Size of the part that the tensors take, which is where the logits begin.
    #[must_use]
    pub fn tensor_bytes(&self) -> usize {
        self.tensor_bytes
    }

    /// The places of the tensors, in the model's order.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Number of elements of each tensor, in the model's order.
    #[must_use]
    pub fn elements(&self) -> Vec<u64> {
        self.sizes
            .iter()
            .zip(&self.dtypes)
            .map(|(size, dtype)| (size / dtype.size_in_bytes()) as u64)
            .collect()
    }

    /// The rows of logits in a copy of the region.
    #[must_use]
    pub fn logits<'a>(&self, region: &'a [u8]) -> TensorBytes<'a> {
        TensorBytes {
            dtype: Dtype::F32,
            bytes: region.get(self.tensor_bytes..).unwrap_or_default(),
        }
    }

    /// Where tensor number `index` begins, in bytes.
    #[must_use]
    pub fn offset(&self, index: usize) -> usize {
        to_usize(self.slots[index].offset)
    }

    /// Tensor number `index` in a copy of the region, or of its part before the logits.
    #[must_use]
    pub fn tensor<'a>(&self, region: &'a [u8], index: usize) -> TensorBytes<'a> {
        let start = self.offset(index);
        TensorBytes {
            dtype: self.dtypes[index],
            bytes: region
                .get(start..start + self.sizes[index])
                .unwrap_or_default(),
        }
    }
}

/// The dtype that PyTorch calls `name`.
fn dtype(name: &str) -> Option<Dtype> {
    match name {
        "float32" => Some(Dtype::F32),
        "bfloat16" => Some(Dtype::BF16),
        "float16" => Some(Dtype::F16),
        _ => None,
    }
}

/// Sizes here are at most [`MAX_BYTES`], which fits the address space of every supported machine.
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Layout, LayoutError};
    use crate::protocol::TensorDescription;

    fn tensor(name: &str, dtype: &str, shape: &[u64]) -> TensorDescription {
        TensorDescription {
            name: name.to_owned(),
            dtype: dtype.to_owned(),
            shape: shape.to_vec(),
            parameter: true,
        }
    }

    #[test]
    fn parts_are_aligned_and_do_not_overlap() {
        let tensors = [
            tensor("a", "float32", &[3, 5]),
            tensor("scalar", "bfloat16", &[]),
            tensor("empty", "float16", &[0, 7]),
            tensor("b", "bfloat16", &[33]),
        ];
        let layout = Layout::new(&tensors, 2, 10).unwrap();
        let offsets: Vec<_> = layout.slots().iter().map(|slot| slot.offset).collect();
        assert_eq!(offsets, [0, 64, 128, 128]);
        assert_eq!(layout.tensor_bytes(), 128 + 128);
        assert_eq!(layout.bytes(), 256 + 80);
        let region = vec![0; layout.bytes()];
        let sizes: Vec<_> = (0..4)
            .map(|index| layout.tensor(&region, index).bytes.len())
            .collect();
        assert_eq!(sizes, [60, 2, 0, 66]);
        assert_eq!(layout.logits(&region).bytes.len(), 80);
    }

    #[test]
    fn unsupported_dtypes_and_absurd_sizes_are_refused_by_name() {
        assert_eq!(
            Layout::new(&[tensor("steps", "torch.int64", &[1])], 0, 0),
            Err(LayoutError::Dtype {
                name: "steps".to_owned(),
                dtype: "torch.int64".to_owned()
            })
        );
        for shape in [vec![u64::MAX, 2], vec![1 << 39, 1 << 39], vec![1 << 39]] {
            assert_eq!(
                Layout::new(&[tensor("w", "float32", &shape)], 0, 0),
                Err(LayoutError::TooLarge {
                    name: "w".to_owned()
                })
            );
        }
        assert_eq!(Layout::new(&[], 0, 0), Err(LayoutError::Empty));
    }
}
