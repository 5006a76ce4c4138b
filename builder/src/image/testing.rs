//! What tests of images and of whole builds stand on.

/// Bytes of a section header (PE Format, "Section Table").
const SECTION_HEADER: usize = 40;
/// Alignment of sections in the file, bytes.
const SECTOR: u32 = 512;
const MACHINE_X86_64: u16 = 0x8664;
const MAGIC_PE32_PLUS: u16 = 0x20b;

/// A PE file of one section, with room for `room` more headers, as a linker would write it.
pub fn small_stub(room: usize) -> Vec<u8> {
    let table = 0x80 + 4 + 20 + 240;
    let headers = (table + (1 + room) * SECTION_HEADER) as u32;
    let text = headers.next_multiple_of(SECTOR);
    let mut bytes = vec![0; text as usize + 512 + 100];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(0, b"MZ");
    put(0x3c, &0x80_u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    let coff = 0x84;
    put(coff, &MACHINE_X86_64.to_le_bytes());
    put(coff + 2, &1_u16.to_le_bytes());
    put(coff + 8, &(text + 512).to_le_bytes()); // symbols behind the section
    put(coff + 12, &5_u32.to_le_bytes());
    put(coff + 16, &240_u16.to_le_bytes());
    put(coff + 18, &0x0206_u16.to_le_bytes());
    let optional = coff + 20;
    put(optional, &MAGIC_PE32_PLUS.to_le_bytes());
    put(optional + 16, &0x1000_u32.to_le_bytes());
    put(optional + 32, &512_u32.to_le_bytes());
    put(optional + 36, &512_u32.to_le_bytes());
    put(optional + 56, &0x1200_u32.to_le_bytes());
    put(optional + 60, &headers.to_le_bytes());
    put(optional + 68, &10_u16.to_le_bytes());
    put(optional + 108, &16_u32.to_le_bytes());
    put(table, b".text\0\0\0");
    put(table + 8, &500_u32.to_le_bytes());
    put(table + 12, &0x1000_u32.to_le_bytes());
    put(table + 16, &512_u32.to_le_bytes());
    put(table + 20, &text.to_le_bytes());
    put(table + 36, &0x6000_0020_u32.to_le_bytes());
    put(text as usize, &[0xc3; 500]);
    put(text as usize + 512, &[0xee; 100]);
    bytes
}
