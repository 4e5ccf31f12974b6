//! The domain of crusades: ids, error codes, hparams, scoring. Pure functions over values.
