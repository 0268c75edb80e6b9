//! Shared tools of the whole-system tests.
