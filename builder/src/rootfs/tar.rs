//! A tree as a tar: sorted, every time the epoch, owners as numbers, capabilities as PAX records.
//!
//! The same tree gives the same bytes. The archive is made as [`Content`]: headers in memory, contents
//! where they already are, so that one code writes the root for the squashfs and a layer into an archive.

use std::io::{self, Write};

use tar::{EntryType, Header};

use super::tree::{Content, Entry, Kind, RootTree};

/// PAX record of a capability, as GNU tar, star and tar2sqfs spell it.
pub const CAPABILITY_RECORD: &str = "SCHILY.xattr.security.capability";

/// Bytes that a tar is made of.
const BLOCK: u64 = 512;

/// The tree as a tar archive. The root has no member; folders come before what is in them.
pub fn archive(tree: &RootTree) -> io::Result<Content> {
    let mut writer = Writer::default();
    for (path, entry) in &tree.entries {
        writer.entry(path.trim_start_matches('/'), entry)?;
    }
    Ok(writer.finish())
}

/// Writes [`archive`] to `out`.
pub fn write(tree: &RootTree, out: &mut dyn Write) -> io::Result<()> {
    archive(tree)?.copy_to(out)
}

/// Puts an archive together from headers and contents.
#[derive(Default)]
pub(super) struct Writer {
    parts: Vec<Content>,
    /// Headers and padding since the last content.
    pending: Vec<u8>,
}

impl Writer {
    fn entry(&mut self, path: &str, entry: &Entry) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(entry.uid.into());
        header.set_gid(entry.gid.into());
        header.set_mtime(0);
        header.set_size(0);
        if let Some(capability) = &entry.capability {
            self.builder(|builder| {
                builder.append_pax_extensions([(CAPABILITY_RECORD, capability.as_slice())])
            })?;
        }
        match &entry.kind {
            Kind::Folder => {
                header.set_entry_type(EntryType::Directory);
                self.builder(|builder| builder.append_data(&mut header, format!("{path}/"), io::empty()))
            }
            Kind::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                self.builder(|builder| builder.append_link(&mut header, path, target))
            }
            Kind::Character(major, minor) => {
                header.set_entry_type(EntryType::Char);
                header.set_device_major(*major)?;
                header.set_device_minor(*minor)?;
                self.builder(|builder| builder.append_data(&mut header, path, io::empty()))
            }
            Kind::File(content) => {
                header.set_entry_type(EntryType::Regular);
                self.file(header, path, content)
            }
        }
    }

    /// A regular file of root's, for archives that are no tree.
    pub(super) fn plain_file(&mut self, path: &str, content: &Content) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        self.file(header, path, content)
    }

    fn file(&mut self, mut header: Header, path: &str, content: &Content) -> io::Result<()> {
        header.set_size(content.len());
        // The builder writes the header only; the contents are a part of their own.
        self.builder(|builder| builder.append_data(&mut header, path, io::empty()))?;
        if !content.is_empty() {
            self.parts.push(Content::bytes(std::mem::take(&mut self.pending)));
            self.parts.push(content.clone());
            let padding = content.len().next_multiple_of(BLOCK) - content.len();
            self.pending.extend(std::iter::repeat_n(0, usize::try_from(padding).expect("less than a block")));
        }
        Ok(())
    }

    fn builder(
        &mut self,
        append: impl FnOnce(&mut tar::Builder<&mut Vec<u8>>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut builder = tar::Builder::new(&mut self.pending);
        append(&mut builder)?;
        // Dropping the builder would write the end of the archive.
        std::mem::forget(builder);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Content {
        self.pending.extend([0; 2 * BLOCK as usize]);
        self.parts.push(Content::bytes(self.pending));
        Content::Joined(self.parts.into())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn sample() -> RootTree {
        let by = "test".into();
        let mut tree = RootTree::default();
        let long = format!("/usr/share/{}/{}", "l".repeat(120), "n".repeat(120));
        let capability = Some(vec![1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let entries = [
            ("/usr/bin/ping".to_owned(), Entry { capability, ..Entry::file("ping", 0o755, &by) }),
            ("/dev/console".to_owned(), Entry::new(Kind::Character(5, 1), 0o600, &by)),
            ("/empty".to_owned(), Entry::file("", 0o600, &by)),
            ("/tmp".to_owned(), Entry { mode: 0o1777, ..Entry::folder(&by) }),
            ("/bin".to_owned(), Entry::link("usr/bin", &by)),
            ("/link".to_owned(), Entry::link("t".repeat(150), &by)),
            (
                "/var/lib/big".to_owned(),
                Entry { uid: 3_000_000, gid: 65534, ..Entry::file(vec![7; 513], 0o4711, &by) },
            ),
            (long, Entry::file("deep", 0o644, &by)),
        ];
        for (path, entry) in entries {
            tree.insert(&path, entry).expect("inserted");
        }
        tree
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("t.tar");
        let tree = sample();
        let mut devices = tree.clone();
        devices.entries.retain(|_, entry| !matches!(entry.kind, Kind::Character(..)));
        write(&devices, &mut std::fs::File::create(&data).expect("created")).expect("written");
        let package = super::super::packages::Package {
            name: "p".into(),
            version: "1".into(),
            sha256: "aa".into(),
            data,
        };
        let back = super::super::packages::entries(&package).expect("read");
        assert_eq!(back.len(), devices.entries.len());
        for ((path, got), (wanted_path, wanted)) in back.iter().zip(&devices.entries) {
            assert_eq!(path, wanted_path);
            assert_eq!((got.mode, got.uid, got.gid), (wanted.mode, wanted.uid, wanted.gid), "{path}");
            assert_eq!(got.capability, wanted.capability, "{path}");
            match (&got.kind, &wanted.kind) {
                (Kind::File(a), Kind::File(b)) => assert!(a.same_bytes(b).expect("read"), "{path}"),
                (a, b) => assert_eq!(a, b, "{path}"),
            }
        }
    }

    #[test]
    fn gnu_tar_lists_it_as_meant() {
        let mut bytes = Vec::new();
        write(&sample(), &mut bytes).expect("written");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.tar");
        std::fs::write(&path, bytes).expect("written");
        let output = Command::new("tar")
            .args(["--numeric-owner", "--utc", "--full-time", "--xattrs", "--xattrs-include=*", "-tvvf"])
            .arg(&path)
            .env("LC_ALL", "C")
            .stderr(Stdio::inherit())
            .output()
            .expect("tar runs");
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout)
            .expect("text")
            .replace(&"n".repeat(120), "N")
            .replace(&"l".repeat(120), "L");
        insta::assert_snapshot!(text.replace(&"t".repeat(150), "T"));
    }
}
