use std::path::Path;

use super::*;
use crate::rootfs::tree::Kind;

fn composed(name: &str, files: &[(&str, PathBuf)], entrypoint: &[&str]) -> ImageSpec {
    ImageSpec::Composed {
        name: name.to_owned(),
        packages: Vec::new(),
        keep: Vec::new(),
        files: files.iter().map(|(path, file)| ((*path).to_owned(), file.clone())).collect(),
        links: [("/bin/alias".to_owned(), "/app".to_owned())].into(),
        entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
    }
}

fn program(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("app");
    std::fs::write(&path, b"program").expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
    path
}

fn write(content: &Content, path: &Path) {
    content.copy_to(&mut std::fs::File::create(path).expect("created")).expect("written");
}

/// Paths and texts of the JSON documents of an archive.
fn listing(path: &Path) -> Vec<(String, String)> {
    let package =
        Package { name: "t".into(), version: "1".into(), sha256: "aa".into(), data: path.to_owned() };
    let entries = crate::rootfs::packages::entries(&package).expect("a tar");
    let read = |entry: &crate::rootfs::tree::Entry| {
        let Kind::File(content) = &entry.kind else { panic!("only files") };
        let bytes = content.read().expect("read");
        if bytes.starts_with(b"{") {
            String::from_utf8(bytes).expect("text")
        } else {
            format!("{} bytes", bytes.len())
        }
    };
    entries.iter().map(|(path, entry)| (path.clone(), read(entry))).collect()
}

#[test]
fn an_archive_has_every_image_under_its_name_and_is_the_same_twice() {
    let (first, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let build = |folder: &Path| {
        let app = program(folder);
        let images = [
            composed("bootwright.local/web:1", &[("/app", app.clone())], &["/app", "-v"]),
            composed(PAUSE_IMAGE, &[("/pause", app)], &["/pause"]),
        ];
        let path = folder.join("images.tar");
        write(&archive(&images).expect("composed"), &path);
        path
    };
    let paths = [build(first.path()), build(second.path())];
    let [a, b] = paths.each_ref().map(|path| std::fs::read(path).expect("read"));
    assert_eq!(a, b);
    let text: String = listing(&paths[0]).iter().map(|(path, text)| format!("{path} {text}\n")).collect();
    insta::assert_snapshot!(text);
}

#[test]
fn an_image_taken_from_an_archive_is_the_image_that_was_put_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = program(folder.path());
    let one = folder.path().join("one.tar");
    write(&archive(&[composed("example.org/a:1", &[("/app", app)], &["/app"])]).expect("composed"), &one);
    let again = archive(&[ImageSpec::Archive { name: "example.org/b:2".to_owned(), path: one.clone() }])
        .expect("taken");
    let two = folder.path().join("two.tar");
    write(&again, &two);
    let blobs = |path: &Path| {
        listing(path).into_iter().filter(|(path, _)| path.starts_with("/blobs")).collect::<Vec<_>>()
    };
    assert_eq!(blobs(&one), blobs(&two));
    let index = listing(&two).into_iter().find(|(path, _)| path == "/index.json").expect("an index").1;
    assert!(index.contains("example.org/b:2") && !index.contains("example.org/a:1"), "{index}");
}

#[test]
fn a_flipped_byte_in_a_blob_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = program(folder.path());
    let path = folder.path().join("one.tar");
    write(&archive(&[composed("example.org/a:1", &[("/app", app)], &["/app"])]).expect("composed"), &path);
    let mut bytes = std::fs::read(&path).expect("read");
    let at = bytes.windows(7).position(|window| window == b"program").expect("in the layer");
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let error =
        archive(&[ImageSpec::Archive { name: "example.org/a:1".to_owned(), path }]).expect_err("damaged");
    assert!(error.to_string().contains("is damaged: it should have"), "{error}");
}

#[test]
fn what_is_no_archive_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.tar");
    let mut docker = Writer::default();
    docker.plain_file("manifest.json", &Content::bytes(*b"[]")).expect("written");
    let mut empty_index = Writer::default();
    empty_index
        .plain_file("index.json", &Content::bytes(*br#"{"schemaVersion":2,"manifests":[]}"#))
        .expect("written");
    empty_index.plain_file("oci-layout", &Content::bytes(*b"{}")).expect("written");
    let mut bad_json = Writer::default();
    bad_json.plain_file("index.json", &Content::bytes(*b"{")).expect("written");
    for (bytes, expected) in [
        (b"\x1f\x8bxxxxxxxx".to_vec(), "it is compressed; decompress it first"),
        (b"no tar at all".repeat(100), "it is no tar archive, or cut off"),
        (docker.finish().read().expect("bytes"), "skopeo copy docker-archive:IN oci-archive:OUT"),
        (Writer::default().finish().read().expect("bytes"), "it has no index.json; it is no OCI archive"),
        (empty_index.finish().read().expect("bytes"), "it has 0 images, and 0 of them are for linux/amd64"),
        (bad_json.finish().read().expect("bytes"), "index.json is not as the OCI image format has it"),
    ] {
        std::fs::write(&path, bytes).expect("written");
        let spec = ImageSpec::Archive { name: "example.org/a:1".to_owned(), path: path.clone() };
        let error = archive(&[spec]).expect_err("refused").to_string();
        assert!(error.contains(expected) && error.contains("x.tar"), "{error}");
    }
}

#[test]
fn names_and_entry_points_are_checked() {
    for (name, expected) in [
        ("web", "there is no host in it"),
        ("library/web:1", "the first part is no host"),
        ("a.b/web", "there is no tag in it"),
        ("a.b/Web:1", "a path has lower-case letters"),
        ("a.b/web:1@sha256:00", "a name with a digest"),
        ("localhost:5000/web", "there is no tag in it"),
    ] {
        let error = check_name(name).expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    for name in [PAUSE_IMAGE, "localhost:5000/a/b:v1.2_x", "docker.io/library/nginx:1.25"] {
        check_name(name).expect(name);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let app = program(folder.path());
    let wrong =
        archive(&[composed("a.b/c:1", &[("/app", app.clone())], &["/other"])]).expect_err("no such file");
    assert!(
        wrong.to_string().contains("its entry point /other is not in the image; it has 1 files"),
        "{wrong}"
    );
    let none = archive(&[composed("a.b/c:1", &[("/app", app.clone())], &[])]).expect_err("none");
    assert_eq!(none.to_string(), "image a.b/c:1: a composed image needs an `entrypoint`");
    let one = composed("a.b/c:1", &[("/app", app)], &["/bin/alias"]);
    assert!(matches!(archive(&[one.clone(), one]), Err(ImageError::Twice(_))));
}
