//! What a file's name says of it: files of one kind are written alike and die alike.
//!
//! A kind is the shape of a name and the directory that it is in, both as hashes: that of a log says much of how long it will live, whatever its number. What the
//! numbers in a name are does not count, since they are what parts files of one kind.

/// The kind of a file. 0 is a part that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileKind {
    /// Of the extension, or of the whole name where it has none.
    pub suffix: u32,
    /// Of the directory that the name is in.
    pub dir: u32,
}

/// Longest extension; what follows a dot further from the end is part of the name.
const EXTENSION_BYTES_MAX: usize = 12;

impl FileKind {
    /// The kind of a file of this name in the directory of this number.
    pub fn of(dir: u64, name: &[u8]) -> Self {
        Self { suffix: hash(shape(extension(name).unwrap_or(name))), dir: hash(dir.to_le_bytes().into_iter()) }
    }

    pub fn is_known(&self) -> bool {
        *self != Self::default()
    }
}

/// What follows the last dot, if that says something: not a number, not everything, not too long.
fn extension(name: &[u8]) -> Option<&[u8]> {
    let dot = name.iter().rposition(|&b| b == b'.').filter(|&at| at > 0)?;
    let extension = &name[dot + 1..];
    let telling = (1..=EXTENSION_BYTES_MAX).contains(&extension.len()) && !extension.iter().all(u8::is_ascii_digit);
    telling.then_some(extension)
}

/// A name with each run of digits, hexadecimal ones beside them included, made one `#`.
fn shape(name: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |b: u8| b.is_ascii_digit();
    name.chunk_by(move |a, b| digit(*a) == digit(*b) || a.is_ascii_hexdigit() && b.is_ascii_hexdigit()).flat_map(
        move |run| {
            let number = run.iter().copied().any(digit) && run.iter().all(u8::is_ascii_hexdigit);
            let (number, text): (&[u8], &[u8]) = if number { (b"#", b"") } else { (b"", run) };
            number.iter().chain(text).map(u8::to_ascii_lowercase)
        },
    )
}

/// FNV-1a with its upper half folded in; never 0.
fn hash(bytes: impl Iterator<Item = u8>) -> u32 {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for byte in bytes {
        h = (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    ((h ^ (h >> 32)) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suffix(name: &str) -> u32 {
        FileKind::of(1, name.as_bytes()).suffix
    }

    #[test]
    fn files_that_differ_in_their_numbers_are_of_one_kind() {
        for (a, b) in [
            ("000123.sst", "000124.sst"),
            ("000000010000000000000001", "00000001000000000000000A"),
            ("16384", "16385"),
            ("16384_fsm", "2608_fsm"),
            ("MANIFEST-000005", "MANIFEST-000006"),
            ("libone-0a1b.rlib", "libtwo.RLIB"),
            ("log.1", "log.2"),
        ] {
            assert_eq!(suffix(a), suffix(b), "{a} {b}");
        }
        for (a, b) in
            [("000123.sst", "000123.log"), ("16384", "16384_fsm"), ("Makefile", "README"), (".bashrc", "x.bashrc2")]
        {
            assert_ne!(suffix(a), suffix(b), "{a} {b}");
        }
    }

    #[test]
    fn a_kind_is_of_a_directory_and_never_unknown() {
        let (one, two) = (FileKind::of(7, b"a.log"), FileKind::of(8, b"a.log"));
        assert!(one.suffix == two.suffix && one.dir != two.dir && one.is_known());
        assert!(FileKind::of(0, b"").is_known() && !FileKind::default().is_known());
    }
}
