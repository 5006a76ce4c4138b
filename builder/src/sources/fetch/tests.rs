use std::fs;

use super::*;
use crate::digests::sha256;
use crate::progress::Silent;
use crate::sources::testing::{Fault, Server, refusing_port};

struct Bench {
    folder: tempfile::TempDir,
    server: Server,
    cache: Cache,
    bytes: Vec<u8>,
}

/// A server with the file `/file` of 300 000 bytes.
fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let served = folder.path().join("served");
    fs::create_dir(&served).unwrap();
    let bytes: Vec<u8> = (0..300_000u32).map(|number| (number % 251) as u8).collect();
    fs::write(served.join("file"), &bytes).unwrap();
    let server = Server::new(&served);
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    Bench { folder, server, cache, bytes }
}

fn options() -> Options {
    let short = Duration::from_millis(1);
    Options { pause: short, attempts: 3, silence: Duration::from_secs(10), ..Options::default() }
}

impl Bench {
    fn download(&self) -> Download {
        Download {
            name: "file".to_owned(),
            version: "1".to_owned(),
            urls: vec![format!("{}/file", self.server.url())],
            sha256: sha256(&self.bytes),
            size: Some(self.bytes.len() as u64),
        }
    }

    fn fetch(&self, download: Download) -> Result<Artifact, FetchError> {
        let fetcher = Fetcher::new(&self.cache, &Silent, options());
        fetcher.fetch_all("test", &[download], |_, _| Ok(())).map(|mut artifacts| artifacts.remove(0))
    }

    fn good(&self, download: Download) {
        let artifact = self.fetch(download).unwrap();
        assert_eq!(fs::read(&artifact.path).unwrap(), self.bytes);
        assert_eq!((artifact.name.as_str(), artifact.version.as_str()), ("file", "1"));
        assert_eq!(self.partials(), 0);
    }

    fn partials(&self) -> usize {
        fs::read_dir(self.cache.root().join("partial")).unwrap().count()
    }

    fn leave_partial(&self, bytes: &[u8]) {
        let path = self.cache.root().join("partial").join(format!("{}.part", sha256(&self.bytes)));
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_file_is_fetched_once() {
    let bench = bench();
    bench.good(bench.download());
    bench.good(bench.download());
    bench.good(Download { size: None, ..bench.download() });
    assert_eq!(bench.server.requests(), ["/file"]);
}

#[test]
fn what_was_cut_off_is_resumed() {
    let bench = bench();
    bench.server.once("/file", Fault::CutAfter(100_000));
    bench.server.once("/file", Fault::CutAfter(50_000));
    bench.good(bench.download());
    assert_eq!(bench.server.requests(), ["/file", "/file 100000-", "/file 150000-"]);
}

#[test]
fn an_earlier_run_is_resumed() {
    let bench = bench();
    bench.leave_partial(&bench.bytes[..200_000]);
    bench.good(bench.download());
    assert_eq!(bench.server.requests(), ["/file 200000-"]);
}

#[test]
fn a_complete_partial_file_needs_no_request() {
    let bench = bench();
    bench.leave_partial(&bench.bytes);
    bench.good(bench.download());
    assert!(bench.server.requests().is_empty());
}

#[test]
fn a_partial_file_of_something_else_is_dropped() {
    for size in [Some(300_000), None] {
        let bench = bench();
        bench.leave_partial(&vec![9; 1000]);
        bench.good(Download { size, ..bench.download() });
        assert_eq!(bench.server.requests(), ["/file 1000-", "/file"], "{size:?}");
    }
    let bench = bench();
    bench.leave_partial(&vec![9; 400_000]);
    bench.good(bench.download());
    assert_eq!(bench.server.requests(), ["/file"], "longer than the file can be");
    let bench = self::bench();
    bench.leave_partial(&vec![9; 400_000]);
    bench.good(Download { size: None, ..bench.download() });
    assert_eq!(bench.server.requests(), ["/file 400000-", "/file"], "the server answers 416");
}

#[test]
fn a_server_without_ranges_sends_everything() {
    let bench = bench();
    bench.leave_partial(&bench.bytes[..200_000]);
    bench.server.once("/file", Fault::IgnoreRange);
    bench.good(bench.download());
    assert_eq!(bench.server.requests(), ["/file 200000-"]);
}

#[test]
fn server_errors_are_tried_again_and_then_told() {
    let bench = bench();
    bench.server.once("/file", Fault::Status(500));
    bench.server.once("/file", Fault::Status(503));
    bench.good(bench.download());
    assert_eq!(bench.server.count("/file"), 3);

    let bench = self::bench();
    bench.server.always("/file", Fault::Status(500));
    let error = bench.fetch(bench.download()).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "{}/file: the server answered 500 (tried 3 times); check the network, the mirror and the proxy variables",
            bench.server.url()
        )
    );
    assert_eq!(bench.partials(), 0, "an empty partial file is not kept");
}

#[test]
fn an_absent_file_is_told_at_once_or_sought_elsewhere() {
    let bench = bench();
    let gone = format!("{}/gone", bench.server.url());
    let mut download = Download { urls: vec![gone], ..bench.download() };
    let error = bench.fetch(download.clone()).unwrap_err();
    assert!(error.is_absent() && error.to_string().ends_with("/gone: the server answered 404"), "{error}");
    assert_eq!(bench.server.requests(), ["/gone"]);
    download.urls.push(format!("{}/file", bench.server.url()));
    bench.good(download);
}

#[test]
fn a_connection_that_keeps_breaking_ends() {
    let bench = bench();
    bench.server.always("/file", Fault::CutAfter(0));
    let error = bench.fetch(bench.download()).unwrap_err();
    assert!(matches!(error, FetchError::Transport { attempts: 3, .. }), "{error}");
    // Nobody listens there.
    let (_bound, port) = refusing_port();
    let closed = format!("127.0.0.1:{port}");
    let error = bench.fetch(Download { urls: vec![format!("http://{closed}/")], ..bench.download() });
    assert!(matches!(error, Err(FetchError::Transport { attempts: 3, .. })));
}

#[test]
fn what_came_is_kept_when_the_network_goes() {
    let bench = bench();
    bench.server.once("/file", Fault::CutAfter(100_000));
    bench.server.always("/file", Fault::Status(502));
    assert!(bench.fetch(bench.download()).is_err());
    assert_eq!(bench.partials(), 1);
    assert!(bench.cache.find(&sha256(&bench.bytes)).is_none(), "never as an object");
}

#[test]
fn another_file_is_refused() {
    let bench = bench();
    let mut other = bench.bytes.clone();
    other[7] ^= 1;
    bench.server.once("/file", Fault::Body(other));
    let error = bench.fetch(bench.download()).unwrap_err();
    assert!(matches!(error, FetchError::Digest { .. }), "{error}");
    bench.server.once("/file", Fault::Body(vec![1; 10]));
    let error = bench.fetch(bench.download()).unwrap_err().to_string();
    assert!(error.contains("10 bytes came, announced were 300000 bytes"), "{error}");
    bench.server.once("/file", Fault::Body(vec![1; 300_001]));
    let error = bench.fetch(bench.download()).unwrap_err().to_string();
    assert!(error.contains("more came, announced were 300000 bytes"), "{error}");
    assert!(bench.cache.find(&sha256(&bench.bytes)).is_none());
}

#[test]
fn redirects_are_followed_and_bounded() {
    let bench = bench();
    bench.server.always("/there", Fault::Redirect("/file".to_owned()));
    bench.server.always("/here", Fault::Redirect(format!("{}/there", bench.server.url())));
    bench.good(Download { urls: vec![format!("{}/here", bench.server.url())], ..bench.download() });
    let bench = self::bench();
    bench.server.always("/loop", Fault::Redirect("/loop".to_owned()));
    let url = format!("{}/loop", bench.server.url());
    let error = bench.fetch(Download { urls: vec![url.clone()], ..bench.download() }).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{url}: more than 5 redirects; name the final server in the cluster file")
    );
    assert!(bench.server.count("/loop") <= 7);
}

#[test]
fn documents_are_limited_and_whole() {
    let bench = bench();
    let fetcher = Fetcher::new(&bench.cache, &Silent, options());
    let url = format!("{}/file", bench.server.url());
    bench.server.once("/file", Fault::CutAfter(1000));
    assert_eq!(fetcher.document(&url, 300_000).unwrap(), bench.bytes);
    assert!(matches!(fetcher.document(&url, 299_999), Err(FetchError::Size { .. })));
}

#[test]
fn folders_of_this_machine_are_mirrors_too() {
    let bench = bench();
    let path = bench.folder.path().join("served/file");
    let download = Download { urls: vec![format!("file://{}", path.display())], ..bench.download() };
    bench.good(download.clone());
    let fetcher = Fetcher::new(&bench.cache, &Silent, options());
    assert_eq!(fetcher.document(&path.display().to_string(), 300_000).unwrap(), bench.bytes);

    let bench = self::bench();
    fs::write(&path, b"other").unwrap();
    assert!(matches!(bench.fetch(download.clone()), Err(FetchError::Digest { .. })));
    fs::remove_file(&path).unwrap();
    assert!(bench.fetch(download).unwrap_err().is_absent());
}

#[test]
fn the_first_failure_in_the_order_of_the_request_is_told() {
    let bench = bench();
    let mut downloads = Vec::new();
    for number in 0..40 {
        let name = format!("part{number}");
        let bytes = vec![number as u8; 1000];
        fs::write(bench.folder.path().join("served").join(&name), &bytes).unwrap();
        let urls = vec![format!("{}/{name}", bench.server.url())];
        let (sha256, size) = (sha256(&bytes), Some(1000));
        downloads.push(Download { name, version: String::new(), urls, sha256, size });
    }
    let fetcher = Fetcher::new(&bench.cache, &Silent, options());
    let seen = Mutex::new(Vec::new());
    let artifacts = fetcher
        .fetch_all::<FetchError>("test", &downloads, |number, artifact| {
            seen.lock().unwrap().push((number, artifact.name.clone()));
            Ok(())
        })
        .unwrap();
    let names: Vec<String> = artifacts.iter().map(|artifact| artifact.name.clone()).collect();
    assert_eq!(names, downloads.iter().map(|download| download.name.clone()).collect::<Vec<_>>());
    let mut seen = seen.into_inner().unwrap();
    seen.sort();
    assert_eq!(seen.len(), 40);
    assert!(seen.iter().all(|(number, name)| *name == format!("part{number}")));

    downloads[3].sha256 = sha256(b"gone");
    downloads[3].urls = vec![format!("{}/gone", bench.server.url())];
    let error = fetcher.fetch_all::<FetchError>("test", &downloads, |_, _| Ok(())).unwrap_err();
    assert!(error.is_absent(), "{error}");
}

#[test]
fn a_download_that_was_stopped_does_not_hide_the_reason() {
    let bench = bench();
    // Larger, so begun first and first in the order; it keeps failing until the other one stops it.
    bench.server.always("/file", Fault::Status(503));
    let gone = format!("{}/gone", bench.server.url());
    let absent = Download { urls: vec![gone], sha256: sha256(b"gone"), size: Some(1), ..bench.download() };
    let patient = Options { attempts: 50, pause: Duration::from_millis(20), ..options() };
    let fetcher = Fetcher::new(&bench.cache, &Silent, patient);
    let error = fetcher.fetch_all::<FetchError>("test", &[bench.download(), absent], |_, _| Ok(()));
    assert!(error.unwrap_err().is_absent());
}

#[test]
fn addresses_that_are_none() {
    let bench = bench();
    for (url, part) in [
        ("ftp://x.test/file", "scheme \"ftp\" is not known"),
        ("file://relative", "three slashes"),
        ("http://", "http://: not an address"),
    ] {
        let error = bench.fetch(Download { urls: vec![url.to_owned()], ..bench.download() }).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn passwords_are_not_shown() {
    assert_eq!(shown("https://me:secret@mirror.test/x@y"), "https://mirror.test/x@y");
    assert_eq!(shown("https://mirror.test/x@y"), "https://mirror.test/x@y");
    assert_eq!(shown("../archive"), "../archive");
}
