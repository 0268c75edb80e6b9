//! A sparse file, or a directory of sparse files, packed into a few KiB: what is not zero, deflated.
//!
//! Integers little-endian. Per file: u32 length of the name (0 for an image that is one file), name, u64 size, u32 number of blocks,
//! then each as u64 number and 4096 bytes (the last may be cut off by the size). In the order of names, so that packing repeats.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

const BLOCK: usize = 4096;

/// Packs the file or directory at `path`.
pub fn pack(path: &Path) -> io::Result<Vec<u8>> {
    let mut out = DeflateEncoder::new(Vec::new(), Compression::best());
    if path.is_dir() {
        let mut names = fs::read_dir(path)?.map(|e| Ok(e?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            pack_file(name.as_bytes(), &fs::read(path.join(&name))?, &mut out)?;
        }
    } else {
        pack_file(b"", &fs::read(path)?, &mut out)?;
    }
    out.finish()
}

fn pack_file(name: &[u8], bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    let zeros = |block: &[u8]| block.iter().all(|b| *b == 0);
    let blocks: Vec<_> = bytes.chunks(BLOCK).enumerate().filter(|(_, block)| !zeros(block)).collect();
    out.write_all(&(name.len() as u32).to_le_bytes())?;
    out.write_all(name)?;
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(&(blocks.len() as u32).to_le_bytes())?;
    for (number, block) in blocks {
        out.write_all(&(number as u64).to_le_bytes())?;
        out.write_all(block)?;
        out.write_all(&[0; BLOCK][block.len()..])?;
    }
    Ok(())
}

/// Makes at `path`, where nothing is, what was packed.
pub fn unpack(packed: &[u8], path: &Path) -> io::Result<()> {
    let mut bytes = Vec::new();
    DeflateDecoder::new(packed).read_to_end(&mut bytes)?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let name_len = u32::from_le_bytes(take(&mut rest)?) as usize;
        let name = rest.split_off(..name_len).ok_or(io::ErrorKind::UnexpectedEof)?;
        let file = if name.is_empty() {
            File::create_new(path)?
        } else {
            fs::create_dir_all(path)?;
            File::create_new(path.join(std::ffi::OsString::from_vec(name.to_vec())))?
        };
        unpack_file(&file, &mut rest)?;
    }
    Ok(())
}

fn unpack_file(file: &File, rest: &mut &[u8]) -> io::Result<()> {
    let size = u64::from_le_bytes(take(rest)?);
    let blocks = u32::from_le_bytes(take(rest)?);
    file.set_len(size)?;
    for _ in 0..blocks {
        let at = u64::from_le_bytes(take(rest)?) * BLOCK as u64;
        let block: [u8; BLOCK] = take(rest)?;
        let len = (size - at).min(BLOCK as u64) as usize;
        std::os::unix::fs::FileExt::write_all_at(file, &block[..len], at)?;
    }
    Ok(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> io::Result<[u8; N]> {
    let bytes = rest.split_off(..N).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(bytes.try_into().expect("as many as asked for"))
}
