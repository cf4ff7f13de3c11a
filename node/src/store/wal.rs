//! Whether a write-ahead log that a crash left lost commits. Pure, over the file's bytes.
//!
//! ```text
//!   header 32: magic, version, page size, checkpoint, salt ×2, sum ×2
//!   frame  24: page, pages in all if this ends a commit, salt ×2, sum ×2; then the page
//! ```
//!
//! Each frame's sum goes on from that of the frame before. SQLite reads up to the first frame that
//! is not right and drops the rest: after a power cut that is the commit that was being written.
//! But with synchronous=FULL a commit is durable before the next is begun, so where two commits of
//! this log stand at or behind a frame that is not right, one of them was durable: bytes were
//! altered, and to go on would be to run an older state.

const HEADER: usize = 32;
const FRAME: usize = 24;
/// Little-endian sums; the lowest bit is set for big-endian ones.
const MAGIC: u32 = 0x377f_0682;

/// Nothing is wrong with the log, or why it lost commits.
pub(super) fn check(log: &[u8]) -> Result<(), String> {
    let Some((header, frames)) = log.split_at_checked(HEADER) else { return Ok(()) };
    // A file that grew, but was not written before the power went.
    if header.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    let header = Header::read(header).ok_or("the header of its log was altered")?;
    let mut sum = header.sum;
    let mut commits = 0_u32;
    let mut altered = None;
    let size = FRAME.saturating_add(header.page);
    for (number, frame) in frames.chunks_exact(size).enumerate() {
        let (head, page) = frame.split_at_checked(FRAME).unwrap_or((frame, &[]));
        let of_this_log = head.get(8..16) == Some(&header.salts);
        if altered.is_none() {
            let summed = head.get(..8).map(|start| header.sum_of(header.sum_of(sum, start), page));
            match (of_this_log, summed == words(head.get(16..24))) {
                (true, true) => sum = summed.unwrap_or(sum),
                _ => altered = Some(number),
            }
        }
        let ends_commit = head.get(4..8).is_some_and(|pages| pages != [0; 4]);
        if altered.is_some() && of_this_log && ends_commit {
            commits = commits.saturating_add(1);
        }
    }
    match altered {
        Some(frame) if commits > 1 => {
            Err(format!("frame {frame} of its log was altered, and {commits} commits follow"))
        }
        _ => Ok(()),
    }
}

struct Header {
    page: usize,
    salts: [u8; 8],
    sum: [u32; 2],
    big_endian: bool,
}

impl Header {
    /// Nothing if its sum is wrong.
    fn read(bytes: &[u8]) -> Option<Header> {
        let word = |at: usize| words(bytes.get(at..at.checked_add(8)?)).map(|[word, _]| word);
        let header = Header {
            page: usize::try_from(word(8)?).ok()?,
            salts: bytes.get(16..24)?.try_into().ok()?,
            sum: words(bytes.get(24..32))?,
            big_endian: word(0)? == MAGIC | 1,
        };
        let known = header.big_endian || word(0)? == MAGIC;
        let right = header.sum_of([0, 0], bytes.get(..24)?) == header.sum;
        (known && right).then_some(header)
    }

    /// SQLite's sum, going on from `sum`.
    fn sum_of(&self, [mut a, mut b]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
        let word = |bytes: &[u8]| {
            let bytes = bytes.try_into().unwrap_or_default();
            if self.big_endian {
                u32::from_be_bytes(bytes)
            } else {
                u32::from_le_bytes(bytes)
            }
        };
        for pair in bytes.chunks_exact(8) {
            let (first, second) = pair.split_at_checked(4).unwrap_or_default();
            a = a.wrapping_add(word(first)).wrapping_add(b);
            b = b.wrapping_add(word(second)).wrapping_add(a);
        }
        [a, b]
    }
}

/// Eight bytes as two big-endian numbers.
fn words(bytes: Option<&[u8]>) -> Option<[u32; 2]> {
    let (first, second) = bytes?.split_first_chunk::<4>()?;
    Some([u32::from_be_bytes(*first), u32::from_be_bytes(second.try_into().ok()?)])
}
