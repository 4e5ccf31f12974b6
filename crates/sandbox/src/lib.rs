//! Starting, freezing, limiting and killing an untrusted process.
