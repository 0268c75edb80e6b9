//! Facts about the crate as a whole.

#[test]
fn block_size_and_shift_agree() {
    assert_eq!(1usize << gleanfs::types::BLOCK_SHIFT, gleanfs::types::BLOCK_SIZE);
}
