//! The one program of gleanfs.

fn main() {}
