//! The command line of crusades.

fn main() {}
