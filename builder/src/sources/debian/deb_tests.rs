use super::*;
use crate::sources::testing::{Deb, Packing};

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let object = cache.insert(bytes, Path::new("x.deb")).unwrap();
    let deb = Artifact {
        name: "x.deb".to_owned(),
        version: String::new(),
        sha256: object.sha256,
        size: object.size,
        path: object.path.clone(),
    };
    let shown = object.path.display().to_string();
    let path = data_tar(&deb, &cache).map_err(|error| error.to_string().replace(&shown, "x.deb"))?;
    Ok(std::fs::read(path).unwrap())
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

#[test]
fn every_compression_gives_the_same_tar() {
    let plain = unpack(&Deb::new("hello", "1").packed(Packing::Plain)).unwrap();
    assert_eq!(names(&plain), ["./usr/share/hello"]);
    for packing in [Packing::Gzip, Packing::Xz, Packing::Zstd] {
        assert_eq!(unpack(&Deb::new("hello", "1").packed(packing)).unwrap(), plain, "{packing:?}");
    }
}

#[test]
fn control_fields() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.deb");
    std::fs::write(&path, Deb::new("hello", "1:2-3").packed(Packing::Xz)).unwrap();
    let control = control(&path).unwrap();
    assert_eq!((control.get("Package"), control.get("Version")), (Some("hello"), Some("1:2-3")));
}

#[test]
fn every_truncation_is_an_error() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Xz, Packing::Zstd] {
        let whole = Deb::new("hello", "1").packed(packing);
        for length in (0..whole.len() - 1).step_by(7) {
            let error = unpack(&whole[..length]).unwrap_err();
            assert!(error.starts_with("x.deb: "), "{packing:?} {length}: {error}");
        }
    }
}

#[test]
fn a_flipped_byte_never_panics() {
    for packing in [Packing::Xz, Packing::Zstd] {
        let whole = Deb::new("hello", "1").packed(packing);
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 0x55;
            let _ = unpack(&damaged);
        }
    }
}

#[test]
fn other_files_say_what_they_are_not() {
    insta::assert_snapshot!(unpack(b"PK\x03\x04 is a zip file").unwrap_err(), @"x.deb: it is not a Debian package: the ar signature is missing (at byte 0); remove the file and build again, or report the package");
    let mut builder = ar::Builder::new(Vec::new());
    builder.append(&ar::Header::new(b"a.o".to_vec(), 1), &b"x"[..]).unwrap();
    insta::assert_snapshot!(unpack(&builder.into_inner().unwrap()).unwrap_err(), @r#"x.deb: its first member is "a.o" and not debian-binary (at byte 8); remove the file and build again, or report the package"#);
    let mut builder = ar::Builder::new(Vec::new());
    builder.append(&ar::Header::new(b"debian-binary".to_vec(), 4), &b"2.0\n"[..]).unwrap();
    builder.append(&ar::Header::new(b"data.tar.lz4".to_vec(), 1), &b"x"[..]).unwrap();
    insta::assert_snapshot!(unpack(&builder.into_inner().unwrap()).unwrap_err(), @r#"x.deb: member data.tar.lz4: compression ".lz4" is not known (xz, zst, gz or none) (at byte 72); remove the file and build again, or report the package"#);
    let mut builder = ar::Builder::new(Vec::new());
    builder.append(&ar::Header::new(b"debian-binary".to_vec(), 4), &b"3.0\n"[..]).unwrap();
    insta::assert_snapshot!(unpack(&builder.into_inner().unwrap()).unwrap_err(), @r#"x.deb: its format is "3.0", only 2.x is known (at byte 8); remove the file and build again, or report the package"#);
}
