//! Boot code for an image that no BIOS boots: it says so, on the screen and on the first serial line, and halts.
//!
//! Whoever writes an image for sectors of 4096 bytes to a disk with sectors of 512, or starts it under a BIOS, would
//! otherwise see nothing at all: the firmware jumps into zeros.

use super::bios::BOOT_CODE;

/// What is said.
const TEXT: &[u8] =
    b"\r\nbootwright: this image is for disks with sectors of 4096 bytes, and for UEFI.\r\n  \
    next: write it to such a disk and boot that under UEFI, or build with sector-size = 512\r\n\0";

/// Where the firmware loads a master boot record to.
const LOADED_AT: u16 = 0x7c00;

/// Real-mode code; what it speaks to is in IBM's Personal Computer AT Technical Reference: the BIOS's teletype output
/// (interrupt 10h, function 0Eh) and the 8250 at port 3F8h.
#[rustfmt::skip]
const CODE: &[u8] = &[
    0x31, 0xc0,             //       xor ax, ax
    0x8e, 0xd8,             //       mov ds, ax
    0x8e, 0xd0,             //       mov ss, ax
    0xbc, 0x00, 0x7c,       //       mov sp, 7c00h
    0xfc,                   //       cld
    0xba, 0xfb, 0x03,       //       mov dx, 3fbh          line control: the divisor next
    0xb0, 0x80,             //       mov al, 80h
    0xee,                   //       out dx, al
    0xba, 0xf8, 0x03,       //       mov dx, 3f8h          115200 bits per second
    0xb0, 0x01,             //       mov al, 1
    0xee,                   //       out dx, al
    0x42,                   //       inc dx
    0x30, 0xc0,             //       xor al, al
    0xee,                   //       out dx, al
    0x42, 0x42,             //       inc dx; inc dx        8 bits, no parity
    0xb0, 0x03,             //       mov al, 3
    0xee,                   //       out dx, al
    0xbe, TEXT_AT[0], TEXT_AT[1], // mov si, text
    0xac,                   // next: lodsb
    0x84, 0xc0,             //       test al, al
    0x74, 0x19,             //       jz halt
    0x50,                   //       push ax
    0xb4, 0x0e,             //       mov ah, 0eh
    0xbb, 0x07, 0x00,       //       mov bx, 7
    0xcd, 0x10,             //       int 10h
    0x31, 0xc9,             //       xor cx, cx            a line that is never free, or not there, is passed over
    0xba, 0xfd, 0x03,       //       mov dx, 3fdh
    0xec,                   // wait: in al, dx
    0xa8, 0x20,             //       test al, 20h
    0xe1, 0xfb,             //       loopz wait
    0xba, 0xf8, 0x03,       //       mov dx, 3f8h
    0x58,                   //       pop ax
    0xee,                   //       out dx, al
    0xeb, 0xe2,             //       jmp next
    0xf4,                   // halt: hlt
    0xeb, 0xfd,             //       jmp halt
];

/// Address of the text, which lies behind the code.
const TEXT_AT: [u8; 2] = (LOADED_AT + CODE_LENGTH as u16).to_le_bytes();
const CODE_LENGTH: usize = 67;

/// The first bytes of the master boot record.
pub const REFUSAL: [u8; BOOT_CODE] = {
    let mut code = [0; BOOT_CODE];
    let (start, rest) = code.split_at_mut(CODE_LENGTH);
    start.copy_from_slice(CODE);
    rest.split_at_mut(TEXT.len()).0.copy_from_slice(TEXT);
    code
};
