//! What a kernel module says about itself: the `.modinfo` section, NUL-terminated `key=value` pairs
//! (include/linux/module.h and scripts/mod/modpost.c of the kernel).

use object::{Object, ObjectSection};

/// A module's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModInfo {
    /// Names of the modules it takes symbols from.
    pub depends: Vec<String>,
    /// Device and other aliases, globs.
    pub aliases: Vec<String>,
    /// `softdep=`: `pre: a b post: c`.
    pub softdeps: Vec<String>,
    /// Files that it may load into its device, below the kernel's folder of such; some are globs.
    pub firmware: Vec<String>,
}

impl ModInfo {
    /// From an uncompressed module.
    pub fn of_module(elf: &[u8]) -> Result<ModInfo, object::Error> {
        let file = object::File::parse(elf)?;
        match file.section_by_name(".modinfo") {
            Some(section) => Ok(ModInfo::parse(section.data()?)),
            None => Ok(ModInfo::default()),
        }
    }

    /// From the section's bytes. Values that are not UTF-8 concern authors' names only; they are skipped.
    pub fn parse(section: &[u8]) -> ModInfo {
        let mut info = ModInfo::default();
        for pair in section.split(|byte| *byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok()) {
            match pair.split_once('=') {
                Some(("depends", names)) => {
                    info.depends.extend(names.split(',').filter(|name| !name.is_empty()).map(normal));
                }
                Some(("alias", alias)) => info.aliases.push(alias.to_owned()),
                Some(("firmware", name)) => info.firmware.push(name.to_owned()),
                Some(("softdep", text)) => info.softdeps.push(text.to_owned()),
                _ => {}
            }
        }
        info
    }

    /// Names or aliases of soft dependencies, those before and those after.
    pub fn soft(&self) -> impl Iterator<Item = &str> {
        let words = self.softdeps.iter().flat_map(|text| text.split_ascii_whitespace());
        words.filter(|word| !matches!(*word, "pre:" | "post:"))
    }
}

/// A module's name as the kernel knows it: dashes are underscores.
pub fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// An alias with its dashes as underscores, except inside brackets, where a dash is a range.
pub fn normal_alias(alias: &str) -> String {
    let mut depth = 0;
    let letters = alias.chars().map(|letter| match letter {
        '[' => {
            depth += 1;
            letter
        }
        ']' => {
            depth -= 1;
            letter
        }
        '-' if depth == 0 => '_',
        letter => letter,
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_others_ignored() {
        let section = b"license=GPL\0\0alias=virtio:d00000001v*\0depends=virtio-ring,net_failover\0alias=x\0\
            author=J\xf6rg\0firmware=tg3.bin\0softdep=pre: crc32c post: a-b\0depends=\0";
        let info = ModInfo::parse(section);
        assert_eq!(info.depends, ["virtio_ring", "net_failover"]);
        assert_eq!(info.aliases, ["virtio:d00000001v*", "x"]);
        assert_eq!(info.firmware, ["tg3.bin"]);
        assert_eq!(info.soft().collect::<Vec<_>>(), ["crc32c", "a-b"]);
    }

    #[test]
    fn dashes_of_ranges_stay() {
        assert_eq!(normal_alias("net-pf-[0-9]-x"), "net_pf_[0-9]_x");
    }

    #[test]
    fn what_is_no_module_is_an_error() {
        assert!(ModInfo::of_module(b"not an elf file").is_err());
    }
}
