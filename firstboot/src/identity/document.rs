//! A `node.toml`, wherever it was kept: as text, in base64, compressed with gzip, or both.

use std::io::{self, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bootwright_model::seed::Seed;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Told;
use super::source::SourceError;

/// Far more than a node's description needs, bytes; clouds take user data of a quarter.
pub const MOST_BYTES: u64 = 256 << 10;
/// Elements and texts of an XML document, altogether: some thousand properties have so many.
const MOST_XML_NODES: u32 = 10_000;
/// Of the thread that reads XML: so many elements within each other take less than a quarter of it.
const XML_STACK_BYTES: usize = 32 << 20;
/// How user data begins that is for others: for cloud-init, which clouds and hypervisors' tools make without being asked
/// (<https://cloudinit.readthedocs.io/en/latest/explanation/format.html>), Ignition, whose documents are JSON, and
/// Windows. No TOML of ours begins so.
const OF_OTHERS: [&str; 12] = [
    "#cloud-",
    "#include",
    "#!",
    "#part-handler",
    "#upstart-job",
    "## template:",
    "content-type:",
    "mime-version:",
    "from ",
    "{",
    "#ps1",
    "<",
];
/// First bytes of a gzip member (RFC 1952, section 2.3.1).
pub const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads the seed in `bytes`. `place` is where it was found (`node.toml on /dev/vda4`) and `next` what to do about a
/// mistake in it.
pub fn seed(bytes: &[u8], place: &str, next: &'static str) -> Result<Seed, SourceError> {
    let text = text(bytes).map_err(|source| SourceError::Mistake {
        document: place.to_owned(),
        message: source.to_string(),
        next,
    })?;
    toml::from_str(&text).map_err(|error| {
        let (line, column) = error.span().map_or((1, 1), |span| position(&text, span.start));
        SourceError::Mistake {
            document: format!("{place}, line {line}, column {column}"),
            message: error.message().replace('\n', " "),
            next,
        }
    })
}

/// Reads YAML, of which JSON is a part. The error is one line; that of the syntax has its place.
///
/// In two steps, so that the parser is compiled for one type: for each of those that are read here it would be a tenth of
/// this program again, which every boot unpacks and reads.
pub fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    let value: serde_json::Value = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| error.to_string().replace('\n', " "))?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Reads XML. The error is one line, with its place.
///
/// On a thread of its own, as the parser calls itself for an element within an element: the number of nodes bounds how deep
/// that goes, and the thread's stack is enough for it. Without a bound a document of `<a><a><a>…` ends this program.
pub fn xml(text: &str) -> Result<roxmltree::Document<'_>, String> {
    // No document type is read: it could have entities that unfold without an end.
    let options = roxmltree::ParsingOptions { allow_dtd: false, nodes_limit: MOST_XML_NODES };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("xml".to_owned()).stack_size(XML_STACK_BYTES);
        let parse = move || roxmltree::Document::parse_with_options(text, options);
        let thread = thread.spawn_scoped(scope, parse).map_err(|error| error.to_string())?;
        let document = thread.join().map_err(|_| "it makes the parser panic".to_owned())?;
        document.map_err(|error| error.to_string())
    })
}

/// Reads the seed that user data is. Of what is for cloud-init only a host name is taken, which is where Proxmox has it.
pub fn user_data(bytes: &[u8], place: &str, next: &'static str) -> Result<Told, SourceError> {
    let Ok(text) = text(bytes) else { return seed(bytes, place, next).map(Told::from) };
    let start = text.lines().next().unwrap_or_default().to_ascii_lowercase();
    if !OF_OTHERS.iter().any(|known| start.starts_with(known)) {
        return seed(bytes, place, next).map(Told::from);
    }
    // A mistake in it is cloud-init's to tell.
    let config = start.starts_with("#cloud-config").then(|| yaml::<CloudConfig>(&text).ok());
    let name = config.flatten().and_then(|config| config.hostname.or(config.fqdn));
    Ok(Told { host_name: name.as_deref().and_then(first_label), ..Told::default() })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CloudConfig {
    hostname: Option<String>,
    fqdn: Option<String>,
}

/// The first label of a host name, by which clouds call a machine: the node's name has no domain, and no capitals, which
/// mean the same to the DNS.
pub fn first_label(host_name: &str) -> Option<String> {
    let label = host_name.trim().split('.').next().unwrap_or_default();
    (!label.is_empty()).then(|| label.to_lowercase())
}

/// The text that `bytes` are, or that is packed in them.
///
/// # Errors
/// It is damaged, no UTF-8, or more than [`MOST_BYTES`].
pub fn text(bytes: &[u8]) -> io::Result<String> {
    let mut bytes = bytes.to_vec();
    if let Some(decoded) = from_base64(&bytes) {
        bytes = decoded;
    }
    if bytes.starts_with(&GZIP) {
        let mut unpacked = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes.as_slice())
            .take(MOST_BYTES + 1)
            .read_to_end(&mut unpacked)?;
        bytes = unpacked;
    }
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other(format!("it has more than {MOST_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is no UTF-8 text"))?;
    // Some editors put a byte order mark in front.
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// No TOML and no YAML that says anything is made of the letters of base64 alone: both have `=` or `:` before a value.
fn from_base64(bytes: &[u8]) -> Option<Vec<u8>> {
    let letters: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if letters.is_empty() {
        return None;
    }
    STANDARD.decode(letters).ok()
}

/// Line and column of an offset, both from 1 and in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "name = \"w1\"\n";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_seed_may_be_packed() {
        let wrapped = STANDARD.encode(gzip(TEXT.as_bytes())).replace('A', "A\r\n");
        let forms =
            [TEXT.as_bytes().to_vec(), gzip(TEXT.as_bytes()), STANDARD.encode(TEXT).into(), wrapped.into()];
        for bytes in forms {
            assert_eq!(seed(&bytes, "node.toml", "").unwrap().name.as_deref(), Some("w1"));
        }
        assert_eq!(seed(b"", "node.toml", "").unwrap(), Seed::default());
    }

    #[test]
    fn user_data_for_cloud_init_gives_a_host_name_at_most() {
        let read = |text: &str| user_data(&gzip(text.as_bytes()), "user-data", "").unwrap();
        for text in [
            "#cloud-config\nusers: [\n",
            "#!/bin/sh\n",
            "Content-Type: multipart/mixed",
            "## template: jinja\n",
            "{\"ignition\": {\"version\": \"3.4.0\"}}",
            "<powershell>",
        ] {
            assert_eq!(read(text), Told::default(), "{text}");
        }
        assert_eq!(
            read("#cloud-config\nusers: [default]\nfqdn: W1.harbor.example\n").host_name.as_deref(),
            Some("w1")
        );
        assert_eq!(read("# for w1\nname = \"w1\"\n").says.name.as_deref(), Some("w1"));
        assert!(user_data(b"hostname: w1\n", "user-data", "").is_err());
        assert_eq!(first_label("w1.novalocal\n").as_deref(), Some("w1"));
        assert_eq!(first_label(".x"), None);
    }

    #[test]
    fn what_is_torn_or_too_large_is_refused() {
        let packed = gzip(TEXT.as_bytes());
        assert!(text(&packed[..packed.len() - 6]).is_err());
        let bomb = gzip(&vec![b'#'; 100 << 20]);
        assert!(text(&bomb).unwrap_err().to_string().contains("more than"));
        assert!(text(b"\xff\xfe\x00").is_err());
    }

    #[test]
    fn a_mistake_is_shown_at_its_place() {
        let error = seed("# ü\nname = \"w1\"\n  nahme = 1\n".as_bytes(), "node.toml", "").unwrap_err();
        assert!(
            error.to_string().starts_with("node.toml, line 3, column 3: unknown field `nahme`"),
            "{error}"
        );
    }

    #[test]
    fn xml_that_is_too_deep_or_unfolds_is_refused() {
        assert!(xml("<a><b/></a>").is_ok());
        let deep = "<a>".repeat(80_000);
        let level = usize::try_from(MOST_XML_NODES).unwrap() - 2;
        assert!(xml(&format!("{}{}", "<a>".repeat(level), "</a>".repeat(level))).is_ok());
        let unfolds = "<!DOCTYPE a [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><a>&b;</a>";
        let errors = [deep.as_str(), unfolds, "<a>"].map(|text| xml(text).unwrap_err());
        insta::assert_snapshot!(errors.join("\n"), @r"
        nodes limit reached
        XML with DTD detected
        the root node was opened but never closed
        ");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..60) {
            let _ = seed(&bytes, "node.toml", "");
            let mut packed = gzip(&bytes);
            packed.truncate(cut);
            let _ = seed(&packed, "node.toml", "");
        }

        #[test]
        fn no_text_makes_it_panic(text in "(name|address|link|mac|\\[|\\]|\\{|=|\"|'|,|\\.| |\n|[a-z0-9:/]){0,40}") {
            let _ = seed(text.as_bytes(), "node.toml", "");
        }
    }
}
