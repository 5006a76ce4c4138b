//! What the data folder of etcd holds: who this member is, without etcd's help.
//!
//! Sources: etcd's `wal` package (`encoder.go`, `decoder.go`: frames; `wal.go`: the log is made in `wal.tmp` and
//! renamed, each of its files begins with a checksum and the metadata) and `etcdserver/raft.go` (the metadata).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Nothing, or what a first start left that was cut off: without a log this member has never taken part, so that
    /// it can be cleared.
    None,
    /// A member's.
    Member(Identity),
    /// A member's, as there is a log, which does not say whose.
    Unknown,
    /// Data, but no log. etcd would begin anew in it.
    Damaged,
}

/// Who a member is, for ever: another that takes its place has another identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Of the cluster.
    pub cluster: u64,
    /// Of the member.
    pub member: u64,
}

/// The database of a first start has 20 KiB, that of a control plane that worked for a minute 200; bytes.
const LARGEST_UNUSED: u64 = 64 << 10;
/// Bytes at the start of a log that hold the identity many times over.
const HEAD: u64 = 4096;

/// Looks at the folder that etcd is given as `--data-dir`. Changes nothing.
pub fn look(folder: &Path) -> io::Result<Data> {
    let member = folder.join("member");
    let logs = names(&member.join("wal"))?;
    // Named by number: the last is the one in use.
    if let Some(log) = logs.iter().filter(|name| name.ends_with(".wal")).max() {
        let mut head = Vec::new();
        File::open(member.join("wal").join(log))?.take(HEAD).read_to_end(&mut head)?;
        return Ok(identity(&head).map_or(Data::Unknown, Data::Member));
    }
    let database = fs::metadata(member.join("snap/db")).map_or(0, |file| file.len());
    let snapshots = names(&member.join("snap"))?.iter().any(|name| name.ends_with(".snap"));
    Ok(if snapshots || database > LARGEST_UNUSED { Data::Damaged } else { Data::None })
}

/// Clears what a first start left that was cut off: etcd would take it for a member's.
pub fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder.join("member")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The metadata among the first records of a log.
fn identity(mut head: &[u8]) -> Option<Identity> {
    /// `metadataType` of the package `wal`.
    const METADATA: u64 = 1;
    while let Some((frame, rest)) = head.split_first_chunk::<8>() {
        let frame = u64::from_le_bytes(*frame);
        // The lower seven bytes are the record's length. The upper one has its first bit set if zeros follow, and
        // their number in the last three.
        let length = usize::try_from(frame & (u64::MAX >> 8)).ok().filter(|length| *length > 0)?;
        let padding = if frame >> 63 == 1 { usize::from((frame >> 56) as u8 & 7) } else { 0 };
        let record = fields(rest.get(..length)?)?;
        if number(&record, 1) == Some(METADATA) {
            let Some(Field::Bytes(metadata)) = field(&record, 3) else { return None };
            let metadata = fields(metadata)?;
            return Some(Identity { member: number(&metadata, 1)?, cluster: number(&metadata, 2)? });
        }
        head = rest.get(length + padding..)?;
    }
    None
}

/// A field of a protocol-buffers message: <https://protobuf.dev/programming-guides/encoding/>.
#[derive(Debug, Clone, Copy)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Fields by their numbers. None if it is no message, or has fields of other kinds than etcd writes here.
fn fields(mut message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut message)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        fields.push((tag >> 3, field));
    }
    Some(fields)
}

fn field<'a>(fields: &[(u64, Field<'a>)], wanted: u64) -> Option<Field<'a>> {
    fields.iter().find(|(number, _)| *number == wanted).map(|(_, field)| *field)
}

fn number(fields: &[(u64, Field<'_>)], wanted: u64) -> Option<u64> {
    match field(fields, wanted)? {
        Field::Number(value) => Some(value),
        Field::Bytes(_) => None,
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How a log of etcd 3.4.23 begins: a checksum, the metadata, a snapshot's place.
    fn head() -> Vec<u8> {
        let digits = "04000000000000840804100000000000\
                      2000000000000000080110bb81c7fc051a1608cdd2918bd2b881cf8e0110b298eaf1948386fccd01\
                      0e0000000000008208051094bbc7ed0e1a04080010000000";
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn a_log_says_whose_it_is() {
        let wanted = Identity { cluster: 14_841_639_068_965_178_418, member: 10_276_657_743_932_975_437 };
        assert_eq!(identity(&head()), Some(wanted));
        let folder = tempfile::tempdir().unwrap();
        let wal = folder.path().join("member/wal");
        fs::create_dir_all(&wal).unwrap();
        fs::write(wal.join("0000000000000001-0000000000002711.wal"), head()).unwrap();
        fs::write(wal.join("0000000000000000-0000000000000000.wal"), "older").unwrap();
        fs::write(wal.join("1.tmp"), "the next").unwrap();
        assert_eq!(look(folder.path()).unwrap(), Data::Member(wanted));
        fs::write(wal.join("0000000000000001-0000000000002711.wal"), "cut off").unwrap();
        assert_eq!(look(folder.path()).unwrap(), Data::Unknown);
    }

    #[test]
    fn without_a_log_there_is_no_member() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(look(&folder.path().join("missing")).unwrap(), Data::None);
        clear(&folder.path().join("missing")).unwrap();
        let member = folder.path().join("member");
        fs::create_dir_all(member.join("wal.tmp")).unwrap();
        fs::create_dir_all(member.join("snap")).unwrap();
        fs::write(member.join("wal.tmp/0000000000000000-0000000000000000.wal"), head()).unwrap();
        fs::write(member.join("snap/db"), [0; 20_480]).unwrap();
        assert_eq!(look(folder.path()).unwrap(), Data::None, "etcd renames the log when it is whole");
        fs::write(member.join("snap/0000000000000002-0000000000002711.snap"), "").unwrap();
        assert_eq!(look(folder.path()).unwrap(), Data::Damaged);
        clear(folder.path()).unwrap();
        assert!(folder.path().exists() && !member.exists());
        fs::create_dir_all(member.join("snap")).unwrap();
        File::create(member.join("snap/db")).unwrap().set_len(LARGEST_UNUSED + 1).unwrap();
        assert_eq!(look(folder.path()).unwrap(), Data::Damaged);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(cut in 0usize..200, changed in prop::collection::vec((0usize..200, any::<u8>()), 0..8)) {
            let mut bytes = head();
            for (at, value) in changed {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(cut);
            let _ = identity(&bytes);
        }
    }
}
