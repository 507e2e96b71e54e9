//! As much of tar as a snapshot has: regular files with short names, one after the other. POSIX ustar, with GNU's form of a size over 8 GiB.

use std::io::{self, Read, Write};

use super::record::wrong;

/// The header of a member.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) size: u64,
}

/// Writes a header. `seconds` since 1970 is the member's time.
pub(super) fn write_header(out: &mut impl Write, name: &str, size: u64, seconds: u64) -> io::Result<()> {
    let mut block = [0_u8; BLOCK];
    put(&mut block, 0, name.as_bytes());
    put(&mut block, 100, b"0000600\0");
    put(&mut block, 108, b"0000000\0");
    put(&mut block, 116, b"0000000\0");
    if size > OCTAL_MAX {
        put(&mut block, 124, &[0x80]);
        put(&mut block, 128, &size.to_be_bytes());
    } else {
        put(&mut block, 124, format!("{size:011o}\0").as_bytes());
    }
    put(&mut block, 136, format!("{:011o}\0", seconds.min(OCTAL_MAX)).as_bytes());
    put(&mut block, 156, b"0");
    put(&mut block, 257, b"ustar\x0000");
    let sum = checksum(&block);
    put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
    out.write_all(&block)
}

/// Fills up the last block of a member of this size.
pub(super) fn write_padding(out: &mut impl Write, size: u64) -> io::Result<()> {
    out.write_all(ZEROS.get(..padding(size)).unwrap_or_default())
}

/// Ends the archive.
pub(super) fn write_end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&ZEROS)?;
    out.write_all(&ZEROS)
}

/// Reads a header. Errors: `InvalidData`, `UnexpectedEof`.
pub(super) fn read_header(source: &mut impl Read) -> io::Result<Header> {
    let mut block = [0_u8; BLOCK];
    source.read_exact(&mut block)?;
    let field = |from: usize, length: usize| block.get(from..from + length).unwrap_or_default();
    if octal(field(148, 8)) != Some(checksum(&block)) {
        return Err(wrong("a file header whose checksum is wrong"));
    }
    let name = field(0, 100).split(|byte| *byte == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).map_err(|_no_text| wrong("a file whose name is no text"))?.to_owned();
    if !matches!(field(156, 1), b"0" | b"\0") {
        return Err(wrong(format!("{name:?} is no regular file")));
    }
    let size = match field(124, 12).split_first() {
        Some((0x80, rest)) => match rest.split_at_checked(3) {
            Some(([0, 0, 0], low)) => <[u8; 8]>::try_from(low).map(u64::from_be_bytes).ok(),
            _ => None,
        },
        _ => octal(field(124, 12)),
    };
    Ok(Header { size: size.ok_or_else(|| wrong(format!("the size of {name:?} is no number")))?, name })
}

/// Reads what fills up the last block of a member of this size.
pub(super) fn read_padding(source: &mut impl Read, size: u64) -> io::Result<()> {
    let mut block = [0_u8; BLOCK];
    let rest = block.get_mut(..padding(size)).unwrap_or_default();
    source.read_exact(rest)?;
    if rest.iter().any(|byte| *byte != 0) { Err(wrong("something behind the end of a file")) } else { Ok(()) }
}

/// Reads to the end of the archive, which must come now: empty blocks and nothing else.
pub(super) fn read_end(source: &mut impl Read) -> io::Result<()> {
    let mut bytes = 0;
    let mut piece = [0_u8; BLOCK];
    loop {
        // Not `read_exact`: it answers a clean end like an end in the middle of something, such as of gzip's own sum.
        let read = source.read(&mut piece)?;
        if read == 0 {
            let whole = bytes >= 2 * BLOCK && bytes.is_multiple_of(BLOCK);
            return if whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        if piece.iter().take(read).any(|byte| *byte != 0) {
            return Err(wrong("more files than a snapshot has"));
        }
        bytes += read;
        if bytes > TRAILING_BLOCKS_MAX * BLOCK {
            return Err(wrong("an end that does not end"));
        }
    }
}

fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    (BLOCK - over) % BLOCK
}

/// The sum of all bytes, with spaces where it stands itself.
fn checksum(block: &[u8; BLOCK]) -> u64 {
    block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { u64::from(b' ') } else { u64::from(*byte) }).sum()
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.len() > 12 || !text.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
        return None;
    }
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    for (slot, byte) in block.iter_mut().skip(at).zip(bytes) {
        *slot = *byte;
    }
}

const BLOCK: usize = 512;
const ZEROS: [u8; BLOCK] = [0; BLOCK];
/// Eleven octal digits.
const OCTAL_MAX: u64 = 0o777_7777_7777;
/// Tar programs fill up to their record size, 20 blocks; some to more.
const TRAILING_BLOCKS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_whatever_the_size() {
        for size in [0, 1, OCTAL_MAX, OCTAL_MAX + 1, u64::MAX] {
            let mut block = Vec::new();
            write_header(&mut block, "state.bin", size, 1_700_000_000).unwrap();
            assert_eq!(read_header(&mut block.as_slice()).unwrap(), Header { name: "state.bin".to_owned(), size });
            block[3] ^= 1;
            assert!(read_header(&mut block.as_slice()).unwrap_err().to_string().contains("checksum"));
        }
    }

    #[test]
    fn an_archive_ends_with_two_empty_blocks_at_least() {
        assert!(read_end(&mut [0; 1024].as_slice()).is_ok() && read_end(&mut [0; 10_240].as_slice()).is_ok());
        assert!(read_end(&mut [0; 512].as_slice()).is_err() && read_end(&mut vec![0; 1_000_000].as_slice()).is_err());
        assert!(read_end(&mut [1; 1024].as_slice()).is_err());
    }
}
