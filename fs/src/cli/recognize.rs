//! What stands on a device or image before mkfs writes over it.
//!
//! A pure function over the first bytes. It knows the common Linux filesystems, volume managers and partition tables by
//! their magic numbers (the same that libblkid looks for); what it does not know may still be somebody's data,
//! so it is a safety net and no proof of emptiness.

/// Bytes from the beginning that [`recognize`] wants to see; fewer are fine, what lies past them is not looked at.
pub const HEAD_BYTES: usize = (1 << 20) + (128 << 10);

/// Names what `head`, the first bytes of a device, looks like; `None` if nothing is known.
///
/// Filesystems come before partition tables, because a filesystem's boot sector ends in the table's signature.
pub fn recognize(head: &[u8]) -> Option<&'static str> {
    MAGICS
        .iter()
        .find(|(offset, magic, _)| has(head, *offset, magic))
        .map(|(_, _, name)| *name)
        .or_else(|| ext(head))
        .or_else(|| swap(head))
        .or_else(|| lvm(head))
        .or_else(|| zfs(head))
        .or_else(|| fat(head))
        .or_else(|| partition_table(head))
}

/// Offset, bytes, name. The offsets are those of the on-disk formats' first superblock.
const MAGICS: &[(usize, &[u8], &str)] = &[
    (0, b"GLNF", "gleanfs"),
    (8 * 4096, b"GLNF", "gleanfs"),
    (0, b"XFSB", "xfs"),
    (0x10040, b"_BHRfS_M", "btrfs"),
    (1024, &0xF2F5_2010u32.to_le_bytes(), "f2fs"),
    (1024 + 6, &0x3434u16.to_le_bytes(), "nilfs2"),
    (1024, &0xE0F5_E1E2u32.to_le_bytes(), "erofs"),
    (3, b"NTFS    ", "ntfs"),
    (3, b"EXFAT   ", "exfat"),
    (0, b"LUKS\xba\xbe", "a LUKS encrypted volume"),
    (0, b"hsqs", "squashfs"),
    (0x8001, b"CD001", "iso9660"),
    (0x8001, b"BEA01", "udf"),
    (0x8001, b"NSR0", "udf"),
    (4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", "bcachefs"),
    (4096 + 24, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", "bcache"),
    (0x10034, b"ReIsEr", "reiserfs"),
    (0x8000, b"JFS1", "jfs"),
    (0, &0xA92B_4EFCu32.to_le_bytes(), "a Linux RAID member"),
    (4096, &0xA92B_4EFCu32.to_le_bytes(), "a Linux RAID member"),
    (0, b"RedoxFS\0", "redoxfs"),
    (0x10000, &0x0116_1970u32.to_be_bytes(), "gfs2"),
];

fn has(head: &[u8], offset: usize, magic: &[u8]) -> bool {
    head.get(offset..offset + magic.len()) == Some(magic)
}

fn le32(head: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(head.get(offset..offset + 4)?.try_into().ok()?))
}

/// ext2, ext3 and ext4 share a magic and differ by features (`fs/ext4/ext4.h`).
fn ext(head: &[u8]) -> Option<&'static str> {
    const SUPER: usize = 1024;
    const HAS_JOURNAL: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    /// Incompatible features that ext3 knows: filetype, recover, meta_bg.
    const EXT3_INCOMPATIBLE: u32 = 0x2 | 0x4 | 0x10;
    /// Read-only compatible features that ext3 knows: sparse_super, large_file, btree_dir.
    const EXT3_READ_ONLY: u32 = 0x1 | 0x2 | 0x4;
    if !has(head, SUPER + 56, &0xEF53u16.to_le_bytes()) {
        return None;
    }
    let compatible = le32(head, SUPER + 92)?;
    let incompatible = le32(head, SUPER + 96)?;
    let read_only = le32(head, SUPER + 100)?;
    if incompatible & JOURNAL_DEVICE != 0 {
        Some("an ext4 journal")
    } else if incompatible & !EXT3_INCOMPATIBLE != 0 || read_only & !EXT3_READ_ONLY != 0 {
        Some("ext4")
    } else if compatible & HAS_JOURNAL != 0 {
        Some("ext3")
    } else {
        Some("ext2")
    }
}

/// The signature ends the first page, whatever the page size of the machine that made it.
fn swap(head: &[u8]) -> Option<&'static str> {
    [4096, 8192, 16_384, 65_536].iter().find_map(|page| {
        let at = page - 10;
        if has(head, at, b"SWAPSPACE2") || has(head, at, b"SWAP-SPACE") {
            Some("swap space")
        } else if has(head, at, b"S1SUSPEND") || has(head, at, b"S2SUSPEND") {
            Some("a suspended system's memory")
        } else {
            None
        }
    })
}

/// The label stands in one of the first four sectors.
fn lvm(head: &[u8]) -> Option<&'static str> {
    (0..4)
        .any(|sector| has(head, sector * 512, b"LABELONE") && has(head, sector * 512 + 24, b"LVM2 001"))
        .then_some("an LVM physical volume")
}

/// Uberblocks fill the second half of a label's 256 KiB; one every 1 KiB or more, in the byte order of their writer.
fn zfs(head: &[u8]) -> Option<&'static str> {
    const MAGIC: u64 = 0x00ba_b10c;
    (0..2)
        .flat_map(|label| (128..256).map(move |kib| (label * 256 + kib) << 10))
        .any(|at| has(head, at, &MAGIC.to_le_bytes()) || has(head, at, &MAGIC.to_be_bytes()))
        .then_some("a zfs pool member")
}

fn boot_signature(head: &[u8]) -> bool {
    has(head, 510, &[0x55, 0xaa])
}

fn fat(head: &[u8]) -> Option<&'static str> {
    let named = has(head, 82, b"FAT32   ") || has(head, 54, b"FAT16   ") || has(head, 54, b"FAT12   ");
    (boot_signature(head) && named).then_some("vfat")
}

fn partition_table(head: &[u8]) -> Option<&'static str> {
    if has(head, 512, b"EFI PART") || has(head, 4096, b"EFI PART") {
        return Some("a GPT partition table");
    }
    let entries = head.get(446..510)?.chunks_exact(16);
    let plausible = |entry: &[u8]| entry[0] & 0x7f == 0;
    let used = |entry: &[u8]| entry[4] != 0;
    let (all_plausible, some_used) =
        entries.fold((true, false), |(all, some), entry| (all && plausible(entry), some || used(entry)));
    if !boot_signature(head) {
        None
    } else if all_plausible && some_used {
        Some("an MBR partition table")
    } else {
        Some("a boot sector")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;

    fn image_with(offset: usize, bytes: &[u8]) -> Vec<u8> {
        let mut head = vec![0; HEAD_BYTES];
        head[offset..offset + bytes.len()].copy_from_slice(bytes);
        head
    }

    #[test]
    fn emptiness_and_noise_are_nothing() {
        assert_eq!(recognize(&[]), None);
        assert_eq!(recognize(&vec![0; HEAD_BYTES]), None);
        assert_eq!(recognize(&vec![0xff; HEAD_BYTES]), None);
        assert_eq!(recognize(b"GLN"), None);
    }

    #[test]
    fn every_magic_is_found_at_its_place_only() {
        for (offset, magic, name) in MAGICS {
            assert_eq!(recognize(&image_with(*offset, magic)), Some(*name), "{name}");
            assert_eq!(recognize(&image_with(offset + 512, magic)), None, "{name} moved");
        }
    }

    #[test]
    fn ours_is_the_superblock_of_the_format() {
        let magic = u32::from_le_bytes(*b"GLNF").to_le_bytes();
        assert_eq!(recognize(&image_with(0, &magic)), Some("gleanfs"));
    }

    #[test]
    fn volumes_and_tables_are_found() {
        let mut lvm = image_with(512, b"LABELONE");
        assert_eq!(recognize(&lvm), None);
        lvm[512 + 24..512 + 32].copy_from_slice(b"LVM2 001");
        assert_eq!(recognize(&lvm), Some("an LVM physical volume"));
        assert_eq!(recognize(&image_with(129 << 10, &0x00ba_b10cu64.to_be_bytes())), Some("a zfs pool member"));
        assert_eq!(recognize(&image_with(512, b"EFI PART")), Some("a GPT partition table"));
        let mut mbr = image_with(510, &[0x55, 0xaa]);
        assert_eq!(recognize(&mbr), Some("a boot sector"));
        mbr[446 + 4] = 0x83;
        assert_eq!(recognize(&mbr), Some("an MBR partition table"));
        mbr[82..90].copy_from_slice(b"FAT32   ");
        assert_eq!(recognize(&mbr), Some("vfat"));
    }

    /// Makes an image with the real tool; `None` where it is not installed.
    fn made_by(tool: &str, arguments: &[&str], mib: u64) -> Option<Vec<u8>> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(mib << 20).unwrap();
        let status = Command::new(tool)
            .args(arguments)
            .arg(image.path())
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match status {
            Err(_) => {
                println!("skipped: {tool} is not installed");
                None
            }
            Ok(status) => {
                assert!(status.success(), "{tool}");
                Some(head_of(image.path()))
            }
        }
    }

    fn head_of(path: &Path) -> Vec<u8> {
        let mut head = Vec::new();
        File::open(path).unwrap().take(HEAD_BYTES as u64).read_to_end(&mut head).unwrap();
        head
    }

    #[test]
    fn images_of_the_real_tools_are_named() {
        for (tool, arguments, mib, name) in [
            ("mkfs.ext4", &["-q", "-F"][..], 16, "ext4"),
            ("mkfs.ext3", &["-q", "-F"], 16, "ext3"),
            ("mkfs.ext2", &["-q", "-F"], 16, "ext2"),
            ("mkfs.xfs", &["-q"], 320, "xfs"),
            ("mkfs.btrfs", &["-q"], 128, "btrfs"),
            ("mkfs.f2fs", &["-q"], 64, "f2fs"),
            ("mkfs.nilfs2", &["-q"], 160, "nilfs2"),
            ("mkfs.vfat", &[], 16, "vfat"),
            ("mkfs.exfat", &[], 16, "exfat"),
            ("mkfs.ntfs", &["-q", "-F"], 16, "ntfs"),
            ("mkswap", &["-q"], 16, "swap space"),
        ] {
            if let Some(head) = made_by(tool, arguments, mib) {
                assert_eq!(recognize(&head), Some(name), "{tool}");
            }
        }
    }
}
