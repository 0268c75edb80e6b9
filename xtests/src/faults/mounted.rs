//! Faults of a real mount.
