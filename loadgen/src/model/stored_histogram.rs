//! One line of a `.hdr` file: `Tag=latency-3,START,LENGTH,MAX,BASE64`.
//!
//! `hdrhistogram` trusts the lengths and counts of a file. Damaged ones can make it allocate gigabytes or overflow. So
//! they are checked here first: <https://github.com/HdrHistogram/HdrHistogram> (`encodeIntoByteBuffer`, V2).

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

use super::histogram::{DIGITS, LONGEST_NS, Times};

pub(super) struct Entry {
    pub(super) block: u32,
    pub(super) is_service: bool,
    pub(super) times: Times,
}

const COOKIE: u32 = 0x1c84_9313;
const COMPRESSED_COOKIE: u32 = 0x1c84_9314;
/// Cookie, length, offset, digits, lowest, highest, ratio.
const HEADER: usize = 40;
/// More bytes than a histogram of all values up to [`LONGEST_NS`] needs.
const INFLATED_MAX: u64 = 4 << 20;
/// Up to this, sums of counts stay within their type.
const SAMPLES_MAX: u64 = 1 << 53;
/// The largest lowest value of a histogram that is accepted.
const LOWEST_MAX: u64 = 1 << 20;

pub(super) fn entry(line: &str) -> Result<Entry, String> {
    let mut fields = line.split(',');
    let tag = fields.next().and_then(|field| field.strip_prefix("Tag=")).ok_or("it does not begin with Tag=")?;
    let (kind, block) = tag
        .split_once('-')
        .and_then(|(kind, block)| Some((kind, block.parse::<u32>().ok()?)))
        .ok_or_else(|| format!("the tag {tag:?} is not kind-block"))?;
    let is_service = match kind {
        "latency" => false,
        "service" => true,
        _ => return Err(format!("the kind {kind:?} is neither latency nor service")),
    };
    let encoded = match fields.collect::<Vec<_>>()[..] {
        [_, _, _, encoded] => encoded,
        _ => return Err("it has not the five fields of a histogram".to_owned()),
    };
    let bytes = STANDARD.decode(encoded).map_err(|error| error.to_string())?;
    Ok(Entry { block, is_service, times: decode(&bytes)? })
}

fn decode(bytes: &[u8]) -> Result<Times, String> {
    let no_histogram = || "the encoded data is not a histogram".to_owned();
    let (head, packed) = bytes.split_at_checked(8).ok_or_else(no_histogram)?;
    if number(head, 0) != Some(COMPRESSED_COOKIE) || number(head, 4).map(|length| length as usize) != Some(packed.len())
    {
        return Err(no_histogram());
    }
    let mut plain = Vec::new();
    ZlibDecoder::new(packed).take(INFLATED_MAX).read_to_end(&mut plain).map_err(|error| error.to_string())?;
    let (header, payload) = plain.split_at_checked(HEADER).ok_or_else(no_histogram)?;
    let long = |at: usize| Some(u64::from(number(header, at)?) << 32 | u64::from(number(header, at + 4)?));
    let (lowest, highest) = (long(16).unwrap_or(0), long(24).unwrap_or(0));
    let is_ours = number(header, 0) == Some(COOKIE)
        && number(header, 4).map(|length| length as usize) == Some(payload.len())
        && number(header, 12) == Some(u32::from(DIGITS))
        && (1..=LOWEST_MAX).contains(&lowest)
        && (2 * lowest..=2 * LONGEST_NS).contains(&highest);
    if !is_ours {
        return Err("the histogram has other bounds than loadgen writes".to_owned());
    }
    let room = Histogram::<u64>::new_with_bounds(lowest, highest, DIGITS).map_err(|error| error.to_string())?;
    let samples = samples(payload, room.distinct_values() as u64).ok_or("the counts of the histogram are damaged")?;
    let histogram: Histogram<u64> =
        Deserializer::new().deserialize(&mut plain.as_slice()).map_err(|error| error.to_string())?;
    if histogram.len() != samples || histogram.max() > 2 * LONGEST_NS {
        return Err("the counts of the histogram are damaged".to_owned());
    }
    Ok(histogram.into())
}

/// Reads a big-endian number.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The sum of all counts; `None` if a histogram of `values` values has no room for them. Counts are zigzag LEB128, at
/// most nine bytes each; a negative count skips values.
fn samples(payload: &[u8], values: u64) -> Option<u64> {
    let (mut rest, mut at, mut samples) = (payload, 0_u64, 0_u64);
    while !rest.is_empty() {
        let (mut encoded, mut length) = (0_u64, 0);
        loop {
            let byte = *rest.get(length)?;
            let is_last = length == 8;
            encoded |= u64::from(if is_last { byte } else { byte & 0x7f }) << (7 * length);
            length += 1;
            if is_last || byte & 0x80 == 0 {
                break;
            }
        }
        rest = &rest[length..];
        let number = (encoded >> 1) as i64 ^ -((encoded & 1) as i64);
        at = at.checked_add(if number < 0 { number.unsigned_abs() } else { 1 })?;
        samples = samples.checked_add(u64::try_from(number).unwrap_or(0))?;
        if at > values || samples > SAMPLES_MAX {
            return None;
        }
    }
    Some(samples)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    /// An encoded histogram with these header fields.
    fn line(claimed: u32, digits: u32, bounds: (u64, u64), payload: &[u8]) -> String {
        let mut plain = Vec::new();
        for number in [COOKIE, claimed, 0, digits] {
            plain.extend(number.to_be_bytes());
        }
        for number in [bounds.0, bounds.1, 1.0_f64.to_bits()] {
            plain.extend(number.to_be_bytes());
        }
        plain.extend(payload);
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&plain).expect("to memory");
        let packed = packed.finish().expect("to memory");
        let bytes = [&COMPRESSED_COOKIE.to_be_bytes()[..], &(packed.len() as u32).to_be_bytes(), &packed].concat();
        format!("Tag=latency-1,0.0,1.0,1.0,{}", STANDARD.encode(bytes))
    }

    #[test]
    fn lengths_and_counts_of_a_stored_histogram_are_checked() {
        let sound = entry(&line(3, 3, (1, 2_048), &[1, 2, 4])).unwrap_or_else(|error| panic!("{error}"));
        // zigzag: −1 is one value without samples, 1 and 2 are counts
        assert_eq!((sound.times.len(), sound.times.max()), (3, 2));
        let [most, fewest] = [[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [0xff; 9]];
        let cases: [(&str, String); 8] = [
            ("other bounds", line(u32::MAX, 3, (1, 2_048), &[2])),
            ("other bounds", line(1, 5, (1, 2_048), &[2])),
            ("other bounds", line(1, 3, (0, 2_048), &[2])),
            ("other bounds", line(1, 3, (1, u64::MAX), &[2])),
            ("counts of the histogram are damaged", line(9, 3, (1, 2_048), &most)),
            ("counts of the histogram are damaged", line(9, 3, (1, 2_048), &fewest)),
            ("counts of the histogram are damaged", line(1, 3, (1, 2_048), &[0x80])),
            ("counts of the histogram are damaged", line(4, 3, (1, 2_048), &[0xff, 0xff, 0x7f, 2])),
        ];
        for (wanted, line) in cases {
            let error = entry(&line).err().unwrap_or_else(|| panic!("{wanted} is accepted"));
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
    }
}
