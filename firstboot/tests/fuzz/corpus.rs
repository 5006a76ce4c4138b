//! The documents that a target begins with.

use std::fs;
use std::path::{Path, PathBuf};

/// Documents, and words of their format.
#[derive(Debug)]
pub struct Corpus {
    documents: Vec<(PathBuf, Vec<u8>)>,
    damaged: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Corpus {
    /// What is kept for a target, and further files of the repository, relative to this crate.
    pub fn of(target: &str, files: &[&str], words: &[&str]) -> Corpus {
        let base = Path::new(env!("CARGO_MANIFEST_DIR"));
        let kept = base.join("tests/fuzz/corpus").join(target);
        let mut paths: Vec<PathBuf> = files.iter().map(|file| base.join(file)).collect();
        paths.extend(files_in(&kept));
        let documents = paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        let damaged =
            files_in(&kept.join("damaged")).into_iter().map(|path| fs::read(path).unwrap()).collect();
        let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        Corpus { documents, damaged, words }
    }

    /// One that is made by the test itself.
    pub fn made(documents: Vec<(PathBuf, Vec<u8>)>) -> Corpus {
        Corpus { documents, damaged: Vec::new(), words: vec![vec![0; 4], vec![0xff; 4]] }
    }

    /// Every document is one that is understood: changes of what is refused at once would try nothing. What once did harm
    /// does none.
    pub fn is_read(&self, read: impl Fn(&[u8]) -> bool) {
        assert!(!self.documents.is_empty());
        for (path, document) in &self.documents {
            assert!(read(document), "{} is not read", path.display());
        }
        for document in &self.damaged {
            read(document);
        }
    }

    /// A document; any number is one.
    pub fn document(&self, number: u8) -> &[u8] {
        &self.documents[usize::from(number) % self.documents.len()].1
    }

    /// A word; any number is one.
    pub fn word(&self, number: u8) -> &[u8] {
        &self.words[usize::from(number) % self.words.len()]
    }
}

/// Sorted; none if there is no such folder.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}
