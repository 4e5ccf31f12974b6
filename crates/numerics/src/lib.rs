//! Comparison of tensors given as bytes.
