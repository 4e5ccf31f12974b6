//! The static scan of a submission's Python source.
