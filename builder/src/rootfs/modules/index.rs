//! The binary index files that modprobe reads (`modules.dep.bin`, `modules.alias.bin`, …): a trie, as
//! libkmod's `libkmod-index.c` describes it. libkmod has no fallback to the text files, so without these
//! `modprobe` finds nothing.
//!
//! All numbers are big-endian. Header: magic, version, offset of the root node. The upper four bits of
//! a node's offset say which of its three parts it has, in this order: a NUL-terminated prefix; first
//! and last letter of its children and an offset for each letter between; a count of values, each a
//! priority and a NUL-terminated text.

use std::collections::BTreeMap;

const MAGIC: u32 = 0xB007_F457;
const VERSION: u32 = 0x0002_0001;
const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;

/// Keys with their values; a key may have several.
#[derive(Debug, Default)]
pub struct Index {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// Letters after the one that led here.
    prefix: Vec<u8>,
    children: BTreeMap<u8, Node>,
    /// Priority, then text: modprobe takes the lowest first.
    values: Vec<(u32, String)>,
}

/// Why a key cannot be in an index.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no key of a module index: only ASCII without NUL is")]
pub struct KeyError(pub String);

impl Index {
    /// Adds a value to a key. Values of a key are ordered by priority, equal ones as they came.
    pub fn insert(&mut self, key: &str, value: &str, priority: u32) -> Result<(), KeyError> {
        // libkmod refuses letters of 128 and above.
        if !key.is_ascii() || key.contains('\0') || value.contains('\0') {
            return Err(KeyError(key.to_owned()));
        }
        let values = &mut self.root.at(key.as_bytes()).values;
        let place = values.partition_point(|(other, _)| *other <= priority);
        values.insert(place, (priority, value.to_owned()));
        Ok(())
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [MAGIC, VERSION, 0] {
            out.extend(word.to_be_bytes());
        }
        let root = self.root.write(&mut out);
        out[8..12].copy_from_slice(&root.to_be_bytes());
        out
    }
}

impl Node {
    /// The node of a key, made if there is none.
    fn at(&mut self, key: &[u8]) -> &mut Node {
        let common = self.prefix.iter().zip(key).take_while(|(a, b)| a == b).count();
        if common < self.prefix.len() {
            let mut lower = std::mem::take(self);
            let branch = lower.prefix[common];
            self.prefix = lower.prefix[..common].to_vec();
            lower.prefix.drain(..=common);
            self.children.insert(branch, lower);
        }
        match key[common..].split_first() {
            None => self,
            Some((letter, rest)) => {
                let fresh = || Node { prefix: rest.to_vec(), ..Node::default() };
                self.children.entry(*letter).or_insert_with(fresh).at(rest)
            }
        }
    }

    /// Appends the children, then the node; its offset with flags.
    fn write(&self, out: &mut Vec<u8>) -> u32 {
        let children: BTreeMap<u8, u32> =
            self.children.iter().map(|(letter, child)| (*letter, child.write(out))).collect();
        let mut offset = u32::try_from(out.len()).expect("a module index is far below 4 GiB");
        if !self.prefix.is_empty() {
            offset |= HAS_PREFIX;
            out.extend(&self.prefix);
            out.push(0);
        }
        if let (Some((first, _)), Some((last, _))) = (children.first_key_value(), children.last_key_value()) {
            offset |= HAS_CHILDREN;
            out.extend([*first, *last]);
            for letter in *first..=*last {
                out.extend(children.get(&letter).copied().unwrap_or(0).to_be_bytes());
            }
        }
        if !self.values.is_empty() {
            offset |= HAS_VALUES;
            out.extend(u32::try_from(self.values.len()).expect("few values").to_be_bytes());
            for (priority, value) in &self.values {
                out.extend(priority.to_be_bytes());
                out.extend(value.as_bytes());
                out.push(0);
            }
        }
        offset
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a key as libkmod's `index_mm_search` does.
    fn search(bytes: &[u8], key: &str) -> Vec<(u32, String)> {
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let text = |at: usize| {
            let end = at + bytes[at..].iter().position(|byte| *byte == 0).expect("terminated");
            (String::from_utf8(bytes[at..end].to_vec()).expect("ascii"), end + 1)
        };
        assert_eq!((word(0), word(4)), (MAGIC, VERSION));
        let (mut offset, mut key) = (word(8), key.as_bytes());
        loop {
            let mut at = (offset & 0x0FFF_FFFF) as usize;
            if offset & HAS_PREFIX != 0 {
                let (prefix, next) = text(at);
                let Some(rest) = key.strip_prefix(prefix.as_bytes()) else { return Vec::new() };
                (key, at) = (rest, next);
            }
            let mut child = 0;
            if offset & HAS_CHILDREN != 0 {
                let (first, last) = (bytes[at], bytes[at + 1]);
                if let Some(letter) = key.first().filter(|letter| (first..=last).contains(letter)) {
                    child = word(at + 2 + 4 * usize::from(letter - first));
                }
                at += 2 + 4 * (usize::from(last - first) + 1);
            }
            if key.is_empty() {
                if offset & HAS_VALUES == 0 {
                    return Vec::new();
                }
                let (count, mut at) = (word(at), at + 4);
                let mut values = Vec::new();
                for _ in 0..count {
                    let (value, next) = text(at + 4);
                    values.push((word(at), value));
                    at = next;
                }
                return values;
            }
            if child == 0 {
                return Vec::new();
            }
            (offset, key) = (child, &key[1..]);
        }
    }

    proptest! {
        #[test]
        fn every_key_is_found_and_no_other(
            entries in proptest::collection::vec(("[a-c_]{0,6}", "[a-z]{1,4}", 0u32..3), 0..40),
            other in "[a-d]{0,6}",
        ) {
            let mut index = Index::default();
            let mut expected: BTreeMap<String, Vec<(u32, String)>> = BTreeMap::new();
            for (key, value, priority) in &entries {
                index.insert(key, value, *priority).expect("ascii");
                expected.entry(key.clone()).or_default().push((*priority, value.clone()));
            }
            let bytes = index.bytes();
            for (key, values) in &mut expected {
                values.sort_by_key(|(priority, _)| *priority);
                prop_assert_eq!(&search(&bytes, key), values);
            }
            if !expected.contains_key(&other) {
                prop_assert!(search(&bytes, &other).is_empty());
            }
        }
    }

    #[test]
    fn a_key_that_libkmod_would_refuse_is_refused() {
        assert_eq!(Index::default().insert("é", "x", 0), Err(KeyError("é".to_owned())));
    }
}
