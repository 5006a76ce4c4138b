//! guestinfo: values that a person or a tool sets in a virtual machine's configuration, for the guest to ask for.
//!
//! `guestinfo.bootwright.seed` is a node.toml. `guestinfo.userdata` and `guestinfo.metadata` are those of cloud-init
//! (<https://cloudinit.readthedocs.io/en/latest/reference/datasources/vmware.html>), `guestinfo.ovfEnv` is the OVF
//! environment of a machine that was made from a template.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::ovf;
use super::port::Backdoor;
use super::rpci::{Channel, RpciError};
use crate::identity::cloud_init::{CLOUD_INIT, Document, Documents};
use crate::identity::source::SourceError;
use crate::identity::{Claim, document};

const SEED: &str = "guestinfo.bootwright.seed";
const USER_DATA: &str = "guestinfo.userdata";
const META_DATA: &str = "guestinfo.metadata";
/// A key of the metadata, for messages.
const NETWORK: &str = "guestinfo.metadata, network";
const OVF_ENVIRONMENT: &str = "guestinfo.ovfEnv";
/// What cloud-init leaves of a value that it has read and is to forget, `GUESTINFO_EMPTY_YAML_VAL`.
const FORGOTTEN: &[u8] = b"---";

const NEXT: &str =
    "correct the value in the virtual machine's configuration (govc vm.change -e), and start it again";
const NEXT_OVF: &str = "correct the virtual machine's OVF properties (vApp options), and start it again";

/// What the host's guestinfo says. A value that cannot be had is a problem beside those that can.
pub fn read(backdoor: &mut dyn Backdoor) -> Vec<Result<Claim, SourceError>> {
    let mut channel = match Channel::open(backdoor) {
        Ok(channel) => channel,
        Err(error) => return vec![Err(unreadable("VMware's guestinfo cannot be read".to_owned(), error))],
    };
    let mut claims = Vec::new();
    for read in [seed, cloud_init, ovf_environment] {
        match read(&mut channel) {
            Ok(said) => claims.extend(said),
            Err(Stop::Here(error)) => claims.push(Err(error)),
            Err(Stop::Channel(error)) => {
                claims.push(Err(error));
                break;
            }
        }
    }
    claims
}

/// What ends the reading of a document.
enum Stop {
    /// A mistake in it, or a value that is not handed out; the others may be there.
    Here(SourceError),
    /// The channel is of no more use.
    Channel(SourceError),
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Stop {
        Stop::Here(error)
    }
}

type Claims = Vec<Result<Claim, SourceError>>;

fn seed(channel: &mut Channel) -> Result<Claims, Stop> {
    let Some(bytes) = decoded(channel, SEED)? else { return Ok(Vec::new()) };
    let says = document::seed(&bytes, &format!("node.toml in VMware's {SEED}"), NEXT)?;
    Ok(vec![Ok(Claim::new(format!("VMware's {SEED}"), says))])
}

fn cloud_init(channel: &mut Channel) -> Result<Claims, Stop> {
    let user_data = decoded(channel, USER_DATA)?;
    let meta_data = decoded(channel, META_DATA)?;
    if user_data.is_none() && meta_data.is_none() {
        return Ok(Vec::new());
    }
    let place = |key: &str| format!("VMware's {key}");
    let user_document =
        user_data.as_ref().map(|bytes| Document { bytes, place: place(USER_DATA), next: NEXT });
    let meta_document =
        meta_data.as_ref().map(|bytes| Document { bytes, place: place(META_DATA), next: NEXT });
    let network = meta_document.as_ref().map(network).transpose()?.flatten();
    let documents = Documents {
        user_data: user_document,
        meta_data: meta_document,
        network: network.as_ref().map(|bytes| Document { bytes, place: place(NETWORK), next: NEXT }),
    };
    let told = documents.say(&CLOUD_INIT)?;
    let source = match (&user_data, &meta_data) {
        (Some(_), Some(_)) => format!("{USER_DATA} and {META_DATA}"),
        (Some(_), None) => USER_DATA.to_owned(),
        (None, _) => META_DATA.to_owned(),
    };
    Ok(vec![Ok(Claim::new(place(&source), told))])
}

fn ovf_environment(channel: &mut Channel) -> Result<Claims, Stop> {
    match value(channel, OVF_ENVIRONMENT)? {
        Some(bytes) => Ok(ovf::claims(&bytes, &format!("VMware's {OVF_ENVIRONMENT}"), NEXT_OVF)),
        None => Ok(Vec::new()),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MetaData {
    network: Option<serde_json::Value>,
    #[serde(rename = "network.encoding")]
    network_encoding: Option<String>,
}

/// The network-config that metadata has in it: as a part of the document, or as a text that may be encoded.
fn network(meta_data: &Document) -> Result<Option<Vec<u8>>, SourceError> {
    let text = document::text(meta_data.bytes).map_err(|error| meta_data.mistake(error))?;
    let meta: Option<MetaData> = document::yaml(&text).map_err(|error| meta_data.mistake(error))?;
    let meta = meta.unwrap_or_default();
    match meta.network {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(text)) => {
            decode(NETWORK, meta.network_encoding.as_deref(), text.into_bytes()).map(Some)
        }
        // JSON is a part of YAML.
        Some(part) => Ok(Some(part.to_string().into_bytes())),
    }
}

/// A value, decoded as its neighbour `.encoding` says.
fn decoded(channel: &mut Channel, key: &str) -> Result<Option<Vec<u8>>, Stop> {
    let Some(bytes) = value(channel, key)? else { return Ok(None) };
    let encoding = value(channel, &format!("{key}.encoding"))?;
    let encoding = encoding.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Some(decode(key, encoding.as_deref(), bytes)?))
}

/// A value; one that is empty is as good as none, as a key cannot be taken away from a machine that runs.
fn value(channel: &mut Channel, key: &str) -> Result<Option<Vec<u8>>, Stop> {
    let value = channel.info_get(key).map_err(|error| match error {
        RpciError::TooLarge { .. } => Stop::Here(mistake(key, error.to_string())),
        error if error.spares_channel() => Stop::Here(not_read(key, error)),
        error => Stop::Channel(not_read(key, error)),
    })?;
    let value = value.map(|bytes| bytes.trim_ascii_end().to_vec());
    Ok(value.filter(|bytes| !bytes.is_empty() && bytes != FORGOTTEN))
}

/// The encodings are those of cloud-init. Without one a value is read as it is, and base64 and gzip are seen by their signs.
fn decode(key: &str, encoding: Option<&str>, bytes: Vec<u8>) -> Result<Vec<u8>, SourceError> {
    let is_packed = match encoding {
        None => return Ok(bytes),
        Some("base64" | "b64") => false,
        Some("gzip+base64" | "gz+b64") => true,
        Some(other) => {
            let what = format!("the encoding {other:?} is not known: base64 and gzip+base64 are");
            return Err(mistake(&format!("{key}.encoding"), what));
        }
    };
    let letters: Vec<u8> = bytes.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let decoded = STANDARD.decode(letters).map_err(|error| {
        mistake(key, format!("it is no base64, which its encoding says that it is: {error}"))
    })?;
    if is_packed && !decoded.starts_with(&document::GZIP) {
        return Err(mistake(
            key,
            "it is not packed with gzip, which its encoding says that it is".to_owned(),
        ));
    }
    Ok(decoded)
}

fn mistake(key: &str, message: String) -> SourceError {
    SourceError::Mistake { document: format!("VMware's {key}"), message, next: NEXT }
}

fn not_read(key: &str, error: RpciError) -> SourceError {
    unreadable(format!("VMware's {key} cannot be read"), error)
}

fn unreadable(what: String, error: RpciError) -> SourceError {
    SourceError::Unreadable {
        what,
        next: "see whether the host lets the machine ask for guestinfo, or hand over the node.toml in another way (docs/identity.md)",
        source: std::io::Error::other(error),
    }
}
