//! The Python environment of the worker: set up, find, check.
