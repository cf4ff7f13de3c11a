//! A half-open range of keys.

/// The keys from a first one on up to, not including, an end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRange {
    pub(super) start: Vec<u8>,
    pub(super) end: Option<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self::default()
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        // The first key behind the prefix: its last byte that can grow, grown; none if all are 255.
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                break;
            }
        }
        KeyRange { start: prefix.to_vec(), end: (!end.is_empty()).then_some(end) }
    }

    /// Every key from `start` on, `start` included, before `end`.
    pub fn between(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        KeyRange { start: start.into(), end: Some(end.into()) }
    }

    /// Every key from `start` on, `start` included.
    pub fn from(start: impl Into<Vec<u8>>) -> Self {
        KeyRange { start: start.into(), end: None }
    }

    /// Every key before `end`.
    pub fn before(end: impl Into<Vec<u8>>) -> Self {
        KeyRange { start: Vec::new(), end: Some(end.into()) }
    }

    /// Whether `key` is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_slice() && self.end.as_deref().is_none_or(|end| key < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_the_next_one_begins() {
        let range = KeyRange::prefix(&[1, 255]);
        assert!(range.contains(&[1, 255]) && range.contains(&[1, 255, 255, 255]));
        assert!(!range.contains(&[1, 254, 9]) && !range.contains(&[2]));
        assert_eq!(KeyRange::prefix(&[255, 255]).end, None);
        assert_eq!(KeyRange::prefix(&[]), KeyRange::all());
    }
}
