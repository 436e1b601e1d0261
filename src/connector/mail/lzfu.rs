//! Compressed RTF (MS-OXRTFCP): the body that Outlook puts into `winmail.dat`. Bounded output, nothing trusted: what is broken ends
//! the text where it breaks. The checksum proves nothing and is not looked at.

/// `LZFu` and `MELA`, little-endian: compressed, and as it is.
const COMPRESSED: u32 = 0x7546_5a4c;
const UNCOMPRESSED: u32 = 0x414c_454d;
const HEADER_BYTES: usize = 16;
/// The window that references point into, and what it holds before the first byte (MS-OXRTFCP §2.1.2.1).
const WINDOW_BYTES: usize = 4096;
const BEFORE: &[u8] = b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx";

/// The RTF in a stream, cut after `bytes_max`; `None` if it is no such stream.
pub fn unpack(stream: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let number = |at: usize| stream.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_le_bytes);
    let content = stream.get(HEADER_BYTES..)?;
    let wanted = (number(4)? as usize).min(bytes_max);
    match number(8)? {
        UNCOMPRESSED => Some(content.get(..wanted.min(content.len()))?.to_vec()),
        COMPRESSED => {
            let mut rtf = decompress(content, wanted);
            rtf.truncate(wanted);
            Some(rtf)
        }
        _ => None,
    }
}

fn decompress(content: &[u8], wanted: usize) -> Vec<u8> {
    let mut window = [0u8; WINDOW_BYTES];
    for (place, byte) in window.iter_mut().zip(BEFORE) {
        *place = *byte;
    }
    let mut write = BEFORE.len();
    let mut out = Vec::with_capacity(wanted.min(64 * 1024));
    let mut put = |window: &mut [u8; WINDOW_BYTES], out: &mut Vec<u8>, byte: u8| {
        if let Some(place) = window.get_mut(write % WINDOW_BYTES) {
            *place = byte;
        }
        write = (write + 1) % WINDOW_BYTES;
        out.push(byte);
        write
    };
    let mut bytes = content.iter().copied();
    let mut end = BEFORE.len();
    // A control byte says of the next eight things whether each is a byte or a reference into the window.
    while let Some(control) = bytes.next() {
        for bit in 0..8 {
            if out.len() >= wanted {
                return out;
            }
            let Some(first) = bytes.next() else { return out };
            if control >> bit & 1 == 0 {
                end = put(&mut window, &mut out, first);
                continue;
            }
            let Some(second) = bytes.next() else { return out };
            let reference = usize::from(first) << 8 | usize::from(second);
            let (from, length) = (reference >> 4, (reference & 0xf) + 2);
            // A reference to the place of writing is the end (§2.2.2.4).
            if from == end {
                return out;
            }
            for step in 0..length {
                let byte = window.get((from + step) % WINDOW_BYTES).copied().unwrap_or(0);
                end = put(&mut window, &mut out, byte);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of MS-OXRTFCP §4.1.1.
    const EXAMPLE: [u8; 49] = [
        0x2d, 0, 0, 0, 0x2b, 0, 0, 0, 0x4c, 0x5a, 0x46, 0x75, 0xf1, 0xc5, 0xc7, 0xa7, 0x03, 0, 0x0a, 0, 0x72, 0x63, 0x70, 0x67, 0x31, 0x32,
        0x35, 0x42, 0x32, 0x0a, 0xf3, 0x20, 0x68, 0x65, 0x6c, 0x09, 0, 0x20, 0x62, 0x77, 0x05, 0xb0, 0x6c, 0x64, 0x7d, 0x0a, 0x80, 0x0f,
        0xa0,
    ];

    #[test]
    fn the_example_of_the_specification_is_unpacked() {
        assert_eq!(unpack(&EXAMPLE, 1 << 20), Some(b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n".to_vec()));
        assert_eq!(unpack(&EXAMPLE, 10), Some(b"{\\rtf1\\ans".to_vec()));
    }

    #[test]
    fn a_cut_or_lying_stream_ends_early() {
        for end in 0..EXAMPLE.len() {
            let (cut, _) = EXAMPLE.split_at(end);
            assert!(unpack(cut, 1 << 20).is_none_or(|rtf| rtf.len() <= 43));
        }
        let mut lying = EXAMPLE;
        lying.iter_mut().skip(16).for_each(|byte| *byte = 0xff);
        assert!(unpack(&lying, 1 << 20).is_some_and(|rtf| rtf.len() <= 43 + 17));
    }
}
