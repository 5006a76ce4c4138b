//! The OEM strings (type 11) among the SMBIOS structures.
//!
//! Read from the raw table that the kernel shows, for which no module is needed; `/sys/firmware/dmi/entries` is of the
//! module dmi-sysfs.

/// "OEM Strings" (DSP0134, section 7.12).
const OEM_STRINGS: u8 = 11;
/// "End-of-Table" (DSP0134, section 7.45).
const END: u8 = 127;
/// Bytes of a structure's header: type, length, and a handle of two (DSP0134, section 6.1.2).
const HEADER_BYTES: usize = 4;

/// All OEM strings of a table, in its order. What is damaged ends it.
pub fn oem_strings(mut table: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((structure, rest)) = next(table) {
        match structure.kind {
            END => break,
            // The first byte after the header counts the strings, which are all that there is.
            OEM_STRINGS => found.extend(structure.strings()),
            _ => {}
        }
        table = rest;
    }
    found
}

struct Structure<'a> {
    kind: u8,
    /// Its strings with their zero bytes (DSP0134, section 6.1.3).
    text: &'a [u8],
}

impl Structure<'_> {
    fn strings(&self) -> impl Iterator<Item = String> + '_ {
        let strings = self.text.split(|&byte| byte == 0).filter(|string| !string.is_empty());
        strings.map(|string| String::from_utf8_lossy(string).into_owned())
    }
}

/// The structure that `table` begins with, and what comes after it.
fn next(table: &[u8]) -> Option<(Structure<'_>, &[u8])> {
    let (&kind, length) = (table.first()?, usize::from(*table.get(1)?));
    if length < HEADER_BYTES {
        return None;
    }
    let after = table.get(length..)?;
    // Strings end with an empty one; without any there are two zero bytes.
    let end = after.windows(2).position(|pair| pair == [0, 0])?;
    Some((Structure { kind, text: &after[..end] }, &after[end + 2..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A structure with `formatted` after its header.
    pub fn structure(kind: u8, formatted: &[u8], strings: &[&str]) -> Vec<u8> {
        let mut bytes = vec![kind, u8::try_from(HEADER_BYTES + formatted.len()).unwrap(), 1, 0];
        bytes.extend(formatted);
        for string in strings {
            bytes.extend(string.as_bytes());
            bytes.push(0);
        }
        bytes.extend(if strings.is_empty() { &[0, 0][..] } else { &[0][..] });
        bytes
    }

    #[test]
    fn oem_strings_are_found_among_other_structures() {
        let table = [
            structure(1, &[1, 2, 0, 3], &["QEMU", "Standard PC", "4711"]),
            structure(11, &[2], &["one", "two=2"]),
            structure(32, &[0; 7], &[]),
            structure(11, &[1], &["three"]),
            structure(127, &[], &[]),
            structure(11, &[1], &["after the end"]),
        ]
        .concat();
        assert_eq!(oem_strings(&table), ["one", "two=2", "three"]);
        assert_eq!(oem_strings(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_machines_table_is_walked_to_its_end() {
        let table = include_bytes!("fixtures/qemu-oem-strings.bin");
        let mut rest = table.as_slice();
        let mut kinds = Vec::new();
        while let Some((structure, after)) = next(rest) {
            rest = after;
            kinds.push(structure.kind);
        }
        assert_eq!(kinds.last(), Some(&END), "{} of {} bytes are left", rest.len(), table.len());
    }

    proptest! {
        #[test]
        fn a_damaged_table_is_no_more_than_a_short_one(
            bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(11), Just(5), any::<u8>()], 0..200),
            cut in 0_usize..100,
        ) {
            let _ = oem_strings(&bytes);
            let mut table = structure(11, &[1], &["bootwright:seed=bmFtZQ=="]);
            table.truncate(cut);
            prop_assert!(oem_strings(&table).len() <= 1);
        }
    }
}
