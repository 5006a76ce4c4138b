use object::read::pe::{ImageNtHeaders as _, PeFile64};
use object::{LittleEndian as LE, Object as _, ObjectSection as _};
use proptest::prelude::*;

use super::*;
use crate::image::testing::small_stub as stub;

fn spec<'a>(stub: &'a [u8], initramfs: &'a [&'a [u8]], kernel: &'a [u8]) -> UkiSpec<'a> {
    UkiSpec {
        stub,
        os_release: "ID=bootwright\nPRETTY_NAME=test\n",
        command_line: "roothash=00 console=ttyS0",
        uname: "6.1.0-56-cloud-amd64",
        initramfs,
        kernel,
    }
}

#[test]
fn the_object_crate_reads_back_every_section() {
    let stub = stub(5);
    let segments: [&[u8]; 2] = [b"first", b"second segment"];
    let uki = build(&spec(&stub, &segments, &[0x4b; 70_000])).unwrap();
    let file = PeFile64::parse(&uki.bytes[..]).unwrap();
    let names: Vec<_> = file.sections().map(|section| section.name().unwrap().to_owned()).collect();
    assert_eq!(names, [".text", ".osrel", ".cmdline", ".uname", ".initrd", ".linux"]);

    // VirtualSize cuts the padding off, so contents are exact.
    let section = |name: &str| file.section_by_name(name).unwrap();
    assert_eq!(&section(".cmdline").data().unwrap()[..25], b"roothash=00 console=ttyS0");
    assert_eq!(section(".cmdline").size(), 25);
    assert_eq!(uki.contents(".initrd").unwrap(), b"first\0\0\0second segment\0\0");
    assert_eq!(uki.contents(".linux").unwrap(), [0x4b; 70_000]);

    // Addresses rise, do not overlap and lie within SizeOfImage.
    let mut end = 0;
    for section in file.sections() {
        assert!(section.address() >= end, "{:?} overlaps", section.name());
        end = section.address() + section.size();
    }
    let optional = file.nt_headers().optional_header();
    assert!(u64::from(optional.size_of_image.get(LE)) >= end);
    assert_eq!(optional.size_of_image.get(LE) % 4096, 0);
    assert_eq!(file.nt_headers().file_header().pointer_to_symbol_table.get(LE), 0);
}

#[test]
fn sections_are_recorded_at_whole_sectors() {
    let stub = stub(7);
    let uki = build(&spec(&stub, &[b"i"], b"k")).unwrap();
    for section in &uki.sections {
        assert_eq!(section.file_offset % SECTOR, 0, "{section:?}");
        assert_eq!(section.file_size % SECTOR, 0, "{section:?}");
        assert!(section.file_size >= section.size);
        let end = (section.file_offset + section.file_size) as usize;
        let padding = &uki.bytes[(section.file_offset + section.size) as usize..end];
        assert!(padding.iter().all(|byte| *byte == 0));
    }
    assert_eq!(uki.bytes.len() as u32, uki.sections[4].file_offset + uki.sections[4].file_size);
}

#[test]
fn the_checksum_is_the_one_of_the_specification() {
    let uki = build(&spec(&stub(5), &[b"i"], b"kernel")).unwrap();
    let field = 0x84 + 20 + 64;
    let stored = read_u32(&uki.bytes, field).unwrap();
    // The textbook way: word by word, folding as it goes, the field itself left out.
    let mut sum = 0_u32;
    for (index, word) in uki.bytes.chunks(2).enumerate() {
        if (field..field + 4).contains(&(index * 2)) {
            continue;
        }
        sum += u32::from(u16::from_le_bytes([word[0], word[1]]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    assert_eq!(stored, sum + uki.bytes.len() as u32);
}

#[test]
fn refuses_stubs_that_it_would_break() {
    let error = build(&spec(&stub(4), &[b"i"], b"k")).unwrap_err();
    assert_eq!(error, UkiError::NoRoom { room: 4, needed: 5 });

    let mut signed = stub(5);
    let certificates = 0x84 + 20 + 112 + CERTIFICATE_TABLE * 8;
    signed[certificates + 4] = 8;
    assert_eq!(build(&spec(&signed, &[b"i"], b"k")).unwrap_err(), UkiError::Signed);

    let once = build(&spec(&stub(12), &[b"i"], b"k")).unwrap().bytes;
    let error = build(&spec(&once, &[b"i"], b"k")).unwrap_err();
    assert_eq!(error, UkiError::Duplicate { name: ".osrel".to_owned() });

    let error = build(&spec(b"#!/bin/sh", &[b"i"], b"k")).unwrap_err();
    insta::assert_snapshot!(error, @"the EFI stub is not an x86-64 PE file (no MZ signature at offset 0): use linuxx64.efi.stub of Debian's package systemd-boot-efi");
    let mut other = stub(5);
    other[0x84] = 0x4c;
    assert!(matches!(build(&spec(&other, &[b"i"], b"k")), Err(UkiError::NotPe { offset: 0x84, .. })));
    assert_eq!(build(&spec(&stub(5), &[], b"k")).unwrap_err(), UkiError::Empty { name: ".initrd" });
}

#[test]
fn command_lines_that_would_not_arrive_are_refused() {
    let line = |arguments: &[&str]| {
        check_command_line(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(line(&["console=ttyS0,115200n8", "a;b", "x=$HOME", "{}", "#"]), Ok(()));
    assert_eq!(line(&["panic=10 quiet"]), Ok(()));
    insta::assert_snapshot!(line(&["dyndbg=\"file x +p\""]).unwrap_err(), @r#"kernel argument "dyndbg=\"file x +p\"" holds '"', which does not reach the kernel unchanged under BIOS and UEFI: use printable ASCII without quotes and backslashes"#);
    assert!(matches!(line(&["tab\there"]), Err(UkiError::Argument { character: '\t', .. })));
    assert!(matches!(line(&["größe=1"]), Err(UkiError::Argument { character: 'ö', .. })));
    assert_eq!(line(&["a".repeat(1900).as_str()]), Ok(()));
    let error = line(&["a".repeat(1000).as_str(), "b".repeat(900).as_str()]).unwrap_err();
    assert_eq!(error, UkiError::CommandLineTooLong { length: 1901 });
}

proptest! {
    #[test]
    fn whatever_the_stub_nothing_panics(mut bytes in Just(stub(5)), changes in prop::collection::vec((0_usize..700, any::<u8>()), 1..8)) {
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let _ = build(&spec(&bytes, &[b"i"], b"k"));
    }

    #[test]
    fn a_cut_stub_does_not_panic(length in 0_usize..1200) {
        let bytes = stub(5);
        let _ = build(&spec(&bytes[..length.min(bytes.len())], &[b"i"], b"k"));
    }
}
