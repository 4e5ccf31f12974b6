//! Development tasks: test, tidy.

fn main() {}
