//! The kind of a file, found from its first bytes, so that a refusal can name it.

/// How many bytes are examined.
const HEAD: usize = 512;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    Webp,
    /// gzip, whatever it contains.
    Gzip,
    /// A kind that is refused, by its usual name.
    Other(&'static str),
}

impl FileKind {
    /// The kind of a file that begins with `bytes`; `None` if they are of no known kind.
    pub fn of(bytes: &[u8]) -> Option<FileKind> {
        Some(match bytes {
            // Stray bytes may follow the start marker.
            [0xff, 0xd8, ..] => FileKind::Jpeg,
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => FileKind::Png,
            [b'R', b'I', b'F', b'F', _, _, _, _, form @ ..] => match form {
                [b'W', b'E', b'B', b'P', ..] => FileKind::Webp,
                [b'A', b'V', b'I', b' ', ..] => FileKind::Other("AVI video"),
                _ => FileKind::Other("RIFF file"),
            },
            [0x1f, 0x8b, 8, ..] => FileKind::Gzip,
            [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => FileKind::Other("BMP file"),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => FileKind::Other("GIF file"),
            [b'I', b'I', 0x2a, 0, ..] | [b'M', b'M', 0, 0x2a, ..] => FileKind::Other("TIFF file"),
            [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => FileKind::Other(match brand {
                [b'a', b'v', b'i', b'f' | b's', ..] => "AVIF file",
                [b'h', b'e', b'i' | b'v', b'c' | b'x', ..] | [b'm', b'i', b'f', b'1', ..] => {
                    "HEIF file"
                }
                _ => "MP4 video",
            }),
            [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => {
                FileKind::Other("JPEG XL file")
            }
            [0, 0, 0, 12, b'j', b'P', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => {
                FileKind::Other("JPEG 2000 file")
            }
            [0, 0, 0, 1, nal, ..] | [0, 0, 1, nal, ..] if *nal != 0 => {
                FileKind::Other("H.264 or H.265 stream")
            }
            [b'%', b'P', b'D', b'F', ..] => FileKind::Other("PDF file"),
            [b'P', b'1'..=b'7', b'\n' | b' ' | b'\r', ..] => FileKind::Other("PNM file"),
            [b'P', b'K', 3, 4, ..] => FileKind::Other("ZIP file"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => FileKind::Other("Zstandard file"),
            _ => return markup(bytes),
        })
    }
}

/// Web pages and drawings: markup after optional white space, or an HTTP answer.
fn markup(bytes: &[u8]) -> Option<FileKind> {
    let head = bytes[..bytes.len().min(HEAD)].trim_ascii_start();
    let begins = |with: &str| {
        head.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with.as_bytes()))
    };
    if ["<!doctype html", "<html", "<head", "<body"].into_iter().any(begins) {
        return Some(FileKind::Other("HTML page"));
    }
    if begins("<svg") {
        return Some(FileKind::Other("SVG file"));
    }
    if begins("<?xml") {
        return Some(FileKind::Other("XML file"));
    }
    begins("HTTP/1.").then_some(FileKind::Other("HTTP answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_first_bytes() {
        let named = |bytes: &[u8]| match FileKind::of(bytes) {
            Some(FileKind::Other(name)) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(named(b"BM\x36\x84\x03\0\0\0\0\0\x36\0\0\0"), "BMP file");
        assert_eq!(named(b"GIF89a\x10\0"), "GIF file");
        assert_eq!(named(b"II\x2a\0\x08\0\0\0"), "TIFF file");
        assert_eq!(named(b"\0\0\0\x1cftypavif\0\0\0\0"), "AVIF file");
        assert_eq!(named(b"\0\0\0\x18ftypheic"), "HEIF file");
        assert_eq!(named(b"\0\0\0\x18ftypisom"), "MP4 video");
        assert_eq!(named(b"\r\n <!DOCTYPE html><title>404</title>"), "HTML page");
        assert_eq!(named(b"\0\0\0\x01\x67\x64\0\x1f"), "H.264 or H.265 stream");
        assert_eq!(FileKind::of(b"\x1f\x8b\x08\0"), Some(FileKind::Gzip));
        for nothing in [&b""[..], b"B", b"\0\0\0\0", b"{\"frame_id\": 1}", b"\x0a\x02f1"] {
            assert_eq!(FileKind::of(nothing), None);
        }
    }
}
