//! No kind of finding is without a test that plants it: this does not compile when one is added and none is named.

use gleanfs::fsck::Finding;
use gleanfs::types::{BlockAddr, SegNo};

use crate::{bytes, nodes, state};

/// The test that plants this kind, demands it, and has it repaired.
fn planted_by(found: &Finding) -> fn() {
    match found {
        Finding::BadSlot { .. } | Finding::NoSuperblock { .. } | Finding::SlotsDisagree => bytes::superblock_slots,
        Finding::NotMountable { .. } => bytes::a_hole_in_what_was_flushed,
        Finding::AllocationList { .. } | Finding::Total { .. } | Finding::NextNumber { .. } => {
            bytes::what_the_checkpoint_lists_and_counts
        }
        Finding::HeadPosition { .. } => nodes::heads,
        Finding::Unreadable { .. } | Finding::Damaged { .. } => bytes::data,
        Finding::BadAddress { .. } => state::an_address_that_is_no_place_for_data,
        Finding::OwnedTwice { .. } => state::a_block_with_two_owners,
        Finding::Unclaimed { .. } => state::a_block_that_no_record_of_its_chunk_claims,
        Finding::LiveCount { .. } | Finding::LiveInFree { .. } | Finding::SegmentEntry { .. } => {
            bytes::live_counts_and_states_of_segments
        }
        Finding::LiveAhead { .. } => bytes::what_the_checkpoint_lists_and_counts,
        Finding::LogGap { .. } => bytes::a_chunk_of_a_clean_image,
        Finding::NodeMissing { .. } => nodes::missing,
        Finding::NodeMisplaced { .. } => nodes::misplaced,
        Finding::NodeReachedTwice { .. } => nodes::reached_twice,
        Finding::NodeLeaked { .. } => nodes::leaked,
        Finding::NoRoot
        | Finding::WrongParent { .. }
        | Finding::DirectoryLinked { .. }
        | Finding::DirectoryLoop { .. } => state::directories,
        Finding::InodeField { .. }
        | Finding::NoInode { .. }
        | Finding::ForeignItem { .. }
        | Finding::MappedBlocks { .. } => state::inodes,
        Finding::LinkCount { .. }
        | Finding::Unreachable { .. }
        | Finding::NotListed { .. }
        | Finding::StaleWork { .. } => state::links,
        Finding::EntryCount { .. }
        | Finding::BadEntry { .. }
        | Finding::DanglingEntry { .. }
        | Finding::EntryType { .. } => state::entries,
        Finding::XattrCount { .. } | Finding::BadXattr { .. } | Finding::BadSymlink { .. } => {
            state::attributes_and_link_targets
        }
        Finding::ExtentsOverlap { .. } | Finding::BadExtent { .. } => nodes::extents,
        Finding::DataBeyondEnd { .. } => state::data_beyond_the_end,
        Finding::LostBlocks { .. } => state::lost_blocks_are_told_and_leave_the_filesystem_clean,
    }
}

#[test]
fn every_kind_of_finding_names_its_test() {
    planted_by(&Finding::AllocationList { segment: SegNo(1), why: "" });
    planted_by(&Finding::BadSlot { slot: BlockAddr(0), why: String::new() });
}
