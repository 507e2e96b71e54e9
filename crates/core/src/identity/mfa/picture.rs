//! The picture that an authenticator app reads a seed from: a QR code as a PNG of two greys. Pure.

use std::io::Write;

use daypass_sdk::{Error, Result};
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use qrcodegen::{QrCode, QrCodeEcc};
use zeroize::Zeroizing;

/// A square of about `size` pixels that shows a text. It is never smaller than one pixel for each of the code's own squares, nor without
/// the white margin that readers need.
pub(super) fn png(text: &str, size: u32) -> Result<Zeroizing<Vec<u8>>> {
    let code =
        QrCode::encode_text(text, QrCodeEcc::Medium).map_err(|error| Error::internal("a text is too long for a QR code").because(error))?;
    let squares = u32::try_from(code.size()).unwrap_or(0) + 2 * MARGIN;
    let scale = (size / squares).max(1);
    let pixels = squares * scale;
    let mut rows = Zeroizing::new(Vec::with_capacity(usize::try_from(pixels * (pixels / 8 + 2)).unwrap_or(0)));
    for y in 0..pixels {
        // Each line begins with its filter: none.
        rows.push(0);
        let dark = |x: u32| x < pixels && is_dark(&code, x / scale, y / scale);
        rows.extend((0..pixels.div_ceil(8)).map(|byte| (0..8).fold(0_u8, |bits, bit| bits << 1 | u8::from(!dark(byte * 8 + bit)))));
    }
    let failed = |error: std::io::Error| Error::internal("a picture could not be packed").because(error);
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&rows).map_err(failed)?;
    let packed = Zeroizing::new(packed.finish().map_err(failed)?);
    let mut out = Zeroizing::new(b"\x89PNG\r\n\x1a\n".to_vec());
    // Width, height, one bit for each pixel, grey; the usual packing and filters, no interlacing.
    let header = [&pixels.to_be_bytes()[..], &pixels.to_be_bytes()[..], &[1, 0, 0, 0, 0]].concat();
    chunk(&mut out, *b"IHDR", &header);
    chunk(&mut out, *b"IDAT", &packed);
    chunk(&mut out, *b"IEND", &[]);
    Ok(out)
}

fn is_dark(code: &QrCode, x: u32, y: u32) -> bool {
    // Outside the code, which is where the margin is, everything is white.
    let place = |at: u32| i32::try_from(i64::from(at) - i64::from(MARGIN)).unwrap_or(-1);
    code.get_module(place(x), place(y))
}

fn chunk(out: &mut Vec<u8>, kind: [u8; 4], body: &[u8]) {
    let mut crc = Crc::new();
    crc.update(&kind);
    crc.update(body);
    out.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(kind);
    out.extend(body);
    out.extend(crc.sum().to_be_bytes());
}

/// White squares around the code.
const MARGIN: u32 = 4;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// The pixels of a picture that [`png`] made: true is dark.
    fn pixels(png: &[u8]) -> (usize, Vec<Vec<bool>>) {
        let number = |at: usize| usize::try_from(u32::from_be_bytes(png[at..at + 4].try_into().unwrap())).unwrap();
        let (width, packed) = (number(16), number(33));
        assert_eq!(&png[37..41], b"IDAT");
        let mut rows = Vec::new();
        flate2::read::ZlibDecoder::new(&png[41..41 + packed]).read_to_end(&mut rows).unwrap();
        let line = 1 + width.div_ceil(8);
        assert_eq!(rows.len(), line * width);
        let bit = |row: &[u8], x: usize| row[1 + x / 8] >> (7 - x % 8) & 1 == 0;
        (width, rows.chunks(line).map(|row| (0..width).map(|x| bit(row, x)).collect()).collect())
    }

    #[test]
    fn the_picture_shows_the_code_with_a_margin_at_about_the_size_that_was_asked_for() {
        let text = "otpauth://totp/Example:0f0f?algorithm=SHA1&digits=6&issuer=Example&period=30&secret=GEZDGNBVGY3TQOJQ";
        let code = QrCode::encode_text(text, QrCodeEcc::Medium).unwrap();
        let (width, rows) = pixels(&png(text, 200).unwrap());
        assert!((150..=200).contains(&width), "{width}");
        let place = |at: i32| usize::try_from(at + 4).unwrap();
        let scale = width / (place(code.size()) + 4);
        for y in 0..code.size() {
            for x in 0..code.size() {
                let (px, py) = (place(x) * scale, place(y) * scale);
                assert_eq!(rows[py][px], code.get_module(x, y), "{x} {y}");
            }
        }
        assert!(rows[..4 * scale].iter().flatten().all(|dark| !dark), "the margin is white");
    }

    #[test]
    fn a_picture_is_never_too_small_to_read() {
        let (width, _) = pixels(&png("x", 1).unwrap());
        assert_eq!(width, 21 + 8);
    }
}
