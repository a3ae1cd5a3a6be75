//! Placeholder while the library is being built.
fn main() {}
