//! Conversion between `Fields` and `HeaderMap` of the crate http. HTTP/2 by hyper and the admin port use the latter.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Fields;
use super::class::trim;

// === impl Fields ===

impl Fields {
    /// The fields of `map`, grouped by name.
    pub fn from_header_map(map: &HeaderMap) -> Self {
        let mut fields = Self::new();
        // A `HeaderValue` cannot contain CR, LF or NUL, but it may have spaces at its ends.
        map.iter().for_each(|(name, value)| fields.push(name.as_str().as_bytes(), trim(value.as_bytes())));
        fields
    }

    /// The fields as a map; values of one name keep their order.
    pub fn to_header_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.len());
        for (name, value) in self.iter() {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_the_way_through_a_header_map() {
        let fields: Fields = [("host", "a"), ("x", "1"), ("x", ""), ("y", "\u{e9}\tz")].into_iter().collect();
        let map = fields.to_header_map();
        assert_eq!(map.get_all("x").iter().collect::<Vec<_>>(), ["1", ""]);
        assert_eq!(Fields::from_header_map(&map), fields);
        let spaced = HeaderMap::from_iter([(HeaderName::from_static("a"), HeaderValue::from_static(" b\t"))]);
        assert_eq!(Fields::from_header_map(&spaced).get(b"a"), Some(&b"b"[..]));
    }
}
