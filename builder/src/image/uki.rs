//! Unified kernel image: kernel, initramfs and command line as sections of systemd's EFI stub.
//!
//! Sources: UAPI Group specification "Unified Kernel Image (UKI)" for the sections and their order, the
//! PE/COFF specification for headers and the checksum. `.linux` comes last, so that a kernel which needs
//! more memory than its file does not run into another section. Every section starts at a multiple of
//! [`SECTOR`] in the file: the BIOS loader reads kernel and initramfs out of this same file by sectors.
//!
//! Own code rather than `objcopy` or `ukify`: neither keeps the file offsets that the BIOS loader needs
//! under our control, and both would be one more tool on the build machine.

use thiserror::Error;

/// Alignment of sections in the file, bytes; the unit of GRUB's block lists.
pub const SECTOR: u32 = 512;
/// Alignment of the sections we add in memory, bytes: a page.
const PAGE: u32 = 4096;
/// Longest command line, bytes: the kernel keeps 2047 on x86, and GRUB puts `BOOT_IMAGE=…` in front.
pub const MAX_COMMAND_LINE: usize = 1900;

/// Largest image, bytes: half of what file offsets and addresses of 32 bits reach, so that sums of the two fit.
const MAX_SIZE: u64 = 1 << 30;
const SECTION_HEADER: usize = 40;
const MACHINE_X86_64: u16 = 0x8664;
const MAGIC_PE32_PLUS: u16 = 0x020b;
/// Index of the certificate table among the data directories.
const CERTIFICATE_TABLE: usize = 4;
/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`
const DATA: u32 = 0x4000_0040;
/// `IMAGE_SCN_CNT_CODE | IMAGE_SCN_MEM_EXECUTE | IMAGE_SCN_MEM_READ`, for stubs that run the kernel in place.
const CODE: u32 = 0x6000_0020;

/// Why no UKI was made.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UkiError {
    /// Not a PE32+ file for x86-64.
    #[error(
        "the EFI stub is not an x86-64 PE file ({reason} at offset {offset}): \
         use linuxx64.efi.stub of Debian's package systemd-boot-efi"
    )]
    NotPe {
        /// What was expected.
        reason: &'static str,
        /// Where in the file, bytes.
        offset: usize,
    },
    /// Signed already.
    #[error("the EFI stub is signed, adding sections would break its signature: use the unsigned stub")]
    Signed,
    /// No space between the last section header and the first section.
    #[error(
        "the EFI stub has room for {room} more section headers, {needed} are needed: use the stub of another \
         systemd version"
    )]
    NoRoom {
        /// Headers that fit.
        room: usize,
        /// Headers to add.
        needed: usize,
    },
    /// The stub has the section already.
    #[error("the EFI stub already has a section {name}: use a plain stub, not a finished image")]
    Duplicate {
        /// Section.
        name: String,
    },
    /// Offsets and addresses are 32 bits wide.
    #[error("the unified kernel image would be {size} bytes, {MAX_SIZE} are allowed: leave out modules")]
    TooLarge {
        /// Bytes.
        size: u64,
    },
    /// A section without contents.
    #[error("section {name} of the unified kernel image would be empty")]
    Empty {
        /// Section.
        name: &'static str,
    },
    /// The command line would not arrive whole.
    #[error(
        "the kernel command line is {length} bytes long, {MAX_COMMAND_LINE} reach the kernel: shorten `command-line`"
    )]
    CommandLineTooLong {
        /// Bytes.
        length: usize,
    },
    /// An argument that the two loaders would not pass on alike.
    #[error(
        "kernel argument {argument:?} holds {character:?}, which does not reach the kernel unchanged under BIOS and \
         UEFI: use printable ASCII without quotes and backslashes"
    )]
    Argument {
        /// Argument.
        argument: String,
        /// First character that does not pass.
        character: char,
    },
}

/// What goes into the image.
#[derive(Debug, Clone, Copy)]
pub struct UkiSpec<'a> {
    /// systemd's `linuxx64.efi.stub`.
    pub stub: &'a [u8],
    /// Text of `.osrel`, as of os-release(5).
    pub os_release: &'a str,
    /// Kernel command line, see [`check_command_line`].
    pub command_line: &'a str,
    /// Kernel release, `uname -r`.
    pub uname: &'a str,
    /// Segments of the initramfs, unpacked by the kernel in this order.
    pub initramfs: &'a [&'a [u8]],
    /// `vmlinuz`.
    pub kernel: &'a [u8],
}

/// A finished image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uki {
    /// The file.
    pub bytes: Vec<u8>,
    /// The sections that were added, in file order.
    pub sections: Vec<Section>,
}

/// Where a section lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `.linux`
    pub name: String,
    /// Bytes of its contents.
    pub size: u32,
    /// First byte in the file.
    pub file_offset: u32,
    /// Bytes in the file, a multiple of [`SECTOR`]: the contents and zeros.
    pub file_size: u32,
    /// Address relative to the image's base.
    pub address: u32,
}

impl Uki {
    /// The section of this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The contents of a section, without the padding.
    pub fn contents(&self, name: &str) -> Option<&[u8]> {
        let section = self.section(name)?;
        let start = section.file_offset as usize;
        self.bytes.get(start..start + section.size as usize)
    }
}

/// Checks that every argument reaches the kernel unchanged through systemd's stub and through GRUB.
///
/// GRUB puts a backslash before quotes and backslashes, and quotes what holds a blank; the stub passes
/// everything on.
pub fn check_command_line(arguments: &[String]) -> Result<(), UkiError> {
    for argument in arguments {
        let refused =
            |character: &char| !character.is_ascii_graphic() || matches!(character, '"' | '\'' | '\\');
        // An argument with blanks is as good as several: kernel parameters are split at blanks.
        if let Some(character) = argument.chars().filter(|character| *character != ' ').find(refused) {
            return Err(UkiError::Argument { argument: argument.clone(), character });
        }
    }
    let length = arguments.iter().map(|argument| argument.len() + 1).sum::<usize>().saturating_sub(1);
    if length > MAX_COMMAND_LINE {
        return Err(UkiError::CommandLineTooLong { length });
    }
    Ok(())
}

/// Appends the sections to the stub.
pub fn build(spec: &UkiSpec<'_>) -> Result<Uki, UkiError> {
    let mut initramfs = Vec::with_capacity(spec.initramfs.iter().map(|segment| segment.len() + 4).sum());
    for segment in spec.initramfs {
        initramfs.extend_from_slice(segment);
        // The kernel expects a plain segment at a multiple of 4 and skips zeros between segments.
        initramfs.resize(initramfs.len().next_multiple_of(4), 0);
    }
    let additions: [(&'static str, &[u8], u32); 5] = [
        (".osrel", spec.os_release.as_bytes(), DATA),
        (".cmdline", spec.command_line.as_bytes(), DATA),
        (".uname", spec.uname.as_bytes(), DATA),
        (".initrd", &initramfs, DATA),
        (".linux", spec.kernel, CODE),
    ];
    if let Some((name, ..)) = additions.iter().find(|(_, contents, _)| contents.is_empty()) {
        return Err(UkiError::Empty { name });
    }
    let total = spec.stub.len() as u64
        + additions.iter().map(|(_, contents, _)| contents.len() as u64 + u64::from(PAGE)).sum::<u64>();
    if total > MAX_SIZE {
        return Err(UkiError::TooLarge { size: total });
    }

    let stub = Stub::parse(spec.stub)?;
    let room = stub.room();
    if room < additions.len() {
        return Err(UkiError::NoRoom { room, needed: additions.len() });
    }
    let mut image = Image::from_stub(spec.stub, &stub)?;
    let sections = additions
        .into_iter()
        .map(|(name, contents, characteristics)| image.append(name, contents, characteristics))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Uki { bytes: image.finish(), sections })
}

/// Offsets of the stub's headers, checked to lie within the file.
struct Stub {
    /// Of the COFF file header.
    coff: usize,
    /// Of the optional header.
    optional: usize,
    /// Of the section table.
    table: usize,
    /// Sections in it.
    count: usize,
    size_of_headers: usize,
    section_alignment: u32,
    file_alignment: u32,
}

impl Stub {
    fn parse(bytes: &[u8]) -> Result<Stub, UkiError> {
        let wrong = |reason, offset| UkiError::NotPe { reason, offset };
        let u16_at = |offset: usize| read_u16(bytes, offset).ok_or(wrong("the file ends", offset));
        let u32_at = |offset: usize| read_u32(bytes, offset).ok_or(wrong("the file ends", offset));
        if bytes.get(..2) != Some(b"MZ") {
            return Err(wrong("no MZ signature", 0));
        }
        let signature = u32_at(0x3c)? as usize;
        if signature >= bytes.len() || bytes.get(signature..signature + 4) != Some(b"PE\0\0") {
            return Err(wrong("no PE signature", signature));
        }
        let coff = signature + 4;
        if u16_at(coff)? != MACHINE_X86_64 {
            return Err(wrong("another machine type than x86-64", coff));
        }
        let count = usize::from(u16_at(coff + 2)?);
        let optional = coff + 20;
        let optional_size = usize::from(u16_at(coff + 16)?);
        if u16_at(optional)? != MAGIC_PE32_PLUS || optional_size < 112 {
            return Err(wrong("no PE32+ optional header", optional));
        }
        let table = optional + optional_size;
        let size_of_headers = u32_at(optional + 60)? as usize;
        if count == 0 || table + count * SECTION_HEADER > size_of_headers || size_of_headers > bytes.len() {
            return Err(wrong("no section table within the headers", table));
        }
        let directories = u32_at(optional + 108)? as usize;
        let certificates = optional + 112 + CERTIFICATE_TABLE * 8;
        if directories > CERTIFICATE_TABLE && certificates + 8 <= table && u32_at(certificates + 4)? != 0 {
            return Err(UkiError::Signed);
        }
        let (section_alignment, file_alignment) = (u32_at(optional + 32)?, u32_at(optional + 36)?);
        let sound = |alignment: u32| alignment.is_power_of_two() && alignment <= 1 << 16;
        if !sound(section_alignment) || !sound(file_alignment) {
            return Err(wrong("an alignment that is no power of two up to 64 KiB", optional + 32));
        }
        Ok(Stub { coff, optional, table, count, size_of_headers, section_alignment, file_alignment })
    }

    /// Section headers that still fit before the first section's contents.
    fn room(&self) -> usize {
        (self.size_of_headers - self.table) / SECTION_HEADER - self.count
    }
}

/// The file while sections are being added.
struct Image {
    bytes: Vec<u8>,
    coff: usize,
    optional: usize,
    table: usize,
    count: usize,
    file_alignment: u32,
    memory_alignment: u32,
    /// First free address.
    next_address: u32,
    initialized_data: u32,
}

impl Image {
    /// Takes over the stub's sections, and nothing that lies behind them: a symbol table is of no use to a firmware
    /// and would stand between the sections.
    fn from_stub(bytes: &[u8], stub: &Stub) -> Result<Image, UkiError> {
        let (mut file_end, mut next_address) = (stub.size_of_headers, 0_u32);
        for index in 0..stub.count {
            let header = stub.table + index * SECTION_HEADER;
            let field = |offset| read_u32(bytes, header + offset).unwrap_or(u32::MAX);
            let name = &bytes[header..header + 8];
            if [&b".osrel\0\0"[..], b".cmdline", b".uname\0\0", b".initrd\0", b".linux\0\0"].contains(&name) {
                let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
                return Err(UkiError::Duplicate { name });
            }
            let (size, address, raw_size, raw_offset) = (field(8), field(12), field(16), field(20));
            let end = u64::from(raw_offset) + u64::from(raw_size);
            let address_end = u64::from(address) + u64::from(size.max(raw_size));
            if end > bytes.len() as u64 || address_end > MAX_SIZE {
                return Err(UkiError::NotPe { reason: "a section outside the file", offset: header });
            }
            file_end = file_end.max(end as usize);
            next_address = next_address.max(address_end as u32);
        }
        let mut image = Image {
            bytes: bytes[..file_end].to_vec(),
            coff: stub.coff,
            optional: stub.optional,
            table: stub.table,
            count: stub.count,
            file_alignment: stub.file_alignment.max(SECTOR),
            memory_alignment: stub.section_alignment.max(PAGE),
            next_address,
            initialized_data: read_u32(bytes, stub.optional + 8).unwrap_or(0),
        };
        image.put_u32(stub.coff + 8, 0); // PointerToSymbolTable
        image.put_u32(stub.coff + 12, 0); // NumberOfSymbols
        Ok(image)
    }

    fn append(&mut self, name: &str, contents: &[u8], characteristics: u32) -> Result<Section, UkiError> {
        self.pad();
        let file_offset = self.bytes.len() as u32;
        self.bytes.extend_from_slice(contents);
        self.pad();
        let section = Section {
            name: name.to_owned(),
            size: contents.len() as u32,
            file_offset,
            file_size: self.bytes.len() as u32 - file_offset,
            address: self.next_address.next_multiple_of(self.memory_alignment),
        };
        self.next_address = section.address + section.size;
        if characteristics == DATA {
            self.initialized_data = self.initialized_data.saturating_add(section.file_size);
        }

        // `build` made sure that the header fits.
        let header = self.table + self.count * SECTION_HEADER;
        self.count += 1;
        self.bytes[header..header + SECTION_HEADER].fill(0);
        self.bytes[header..header + name.len()].copy_from_slice(name.as_bytes());
        self.put_u32(header + 8, section.size);
        self.put_u32(header + 12, section.address);
        self.put_u32(header + 16, section.file_size);
        self.put_u32(header + 20, section.file_offset);
        self.put_u32(header + 36, characteristics);
        Ok(section)
    }

    fn finish(mut self) -> Vec<u8> {
        let count = (self.count as u16).to_le_bytes();
        self.bytes[self.coff + 2..self.coff + 4].copy_from_slice(&count);
        self.put_u32(self.optional + 8, self.initialized_data);
        self.put_u32(self.optional + 56, self.next_address.next_multiple_of(self.memory_alignment)); // SizeOfImage
        self.put_u32(self.optional + 64, 0);
        let checksum = checksum(&self.bytes);
        self.put_u32(self.optional + 64, checksum);
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(self.file_alignment as usize), 0);
    }

    fn put_u32(&mut self, offset: usize, value: u32) {
        self.bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// The PE checksum of a file whose checksum field is zero: 16-bit words added with end-around carry, and the length.
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = 0_u64;
    for word in bytes.chunks(2) {
        sum += u64::from(word[0]) | u64::from(word.get(1).copied().unwrap_or(0)) << 8;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // `build` refused files whose length does not fit.
    sum as u32 + bytes.len() as u32
}

fn read_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(offset..offset.checked_add(2)?)?.try_into().ok()?))
}

fn read_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
#[path = "uki_tests.rs"]
mod tests;
