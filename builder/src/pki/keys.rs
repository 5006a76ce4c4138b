//! Private keys: making them, and reading the forms that others write.

use std::io;
use std::path::Path;

use rand::TryRngCore;
use rand::rngs::OsRng;
use rcgen::{KeyPair, PublicKeyData, SubjectPublicKeyInfo};
use yasna::models::ObjectIdentifier;

use super::{PkiError, SERVICE_ACCOUNT, folder};

/// `rsaEncryption`, RFC 8017 appendix C.
const RSA_ENCRYPTION: &[u64] = &[1, 2, 840, 113549, 1, 1, 1];
/// `id-ecPublicKey`, RFC 5480 section 2.1.1.
const EC_PUBLIC_KEY: &[u64] = &[1, 2, 840, 10045, 2, 1];
/// Lower-case letters and digits.
const TOKEN_CHARACTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A certificate or public key, and the private key to it, both PEM.
pub(super) struct Pair {
    pub(super) public: String,
    /// PKCS#8.
    pub(super) key: String,
}

/// A new key pair, ECDSA on P-256: made and used much faster than RSA, which counts on the node.
pub(super) fn generate() -> Result<Pair, PkiError> {
    let key = KeyPair::generate().map_err(|source| PkiError::Create { what: "a key pair", source })?;
    Ok(Pair { public: key.public_key_pem(), key: key.serialize_pem() })
}

/// `[a-z0-9]{6}.[a-z0-9]{16}`
pub(super) fn bootstrap_token() -> Result<String, PkiError> {
    let mut token = String::new();
    while token.len() < 22 {
        let mut bytes = [0; 32];
        OsRng.try_fill_bytes(&mut bytes).map_err(|error| PkiError::Read {
            path: "the system's random numbers".into(),
            source: io::Error::other(error),
        })?;
        // The largest multiple of 36 in a byte: taking more would prefer the first characters.
        for byte in bytes.into_iter().filter(|byte| *byte < 252) {
            token.push(char::from(TOKEN_CHARACTERS[usize::from(byte) % TOKEN_CHARACTERS.len()]));
        }
    }
    token.truncate(22);
    token.insert(6, '.');
    Ok(token)
}

/// The service-account key pair, checked to be one.
pub(super) fn load_service_account(folder: &Path) -> Result<Pair, PkiError> {
    let [public_path, key_path] = SERVICE_ACCOUNT.map(|name| folder.join(name));
    let key = load(&key_path)?;
    let text = folder::read(&public_path)?;
    let public = SubjectPublicKeyInfo::from_pem(&text).map_err(|error| PkiError::Damaged {
        path: public_path.clone(),
        what: "public key",
        reason: format!(
            "{error}; make it anew: openssl pkey -in {} -pubout -out {}",
            key_path.display(),
            public_path.display()
        ),
    })?;
    if public.subject_public_key_info() != key.subject_public_key_info() {
        return Err(PkiError::Mismatch { key: key_path, public: public_path });
    }
    Ok(Pair { public: key.public_key_pem(), key: key.serialize_pem() })
}

/// Reads a private key: PKCS#8, or the older PKCS#1 (RSA) and SEC 1 (elliptic curves) that kubeadm and
/// openssl write. The node understands PKCS#8 only.
pub(super) fn load(path: &Path) -> Result<KeyPair, PkiError> {
    let text = folder::read_secret(path)?;
    let unusable = |reason: &str| PkiError::Key { path: path.to_owned(), reason: reason.to_owned() };
    let blocks = pem::parse_many(&text).map_err(|_| unusable("it is no PEM file"))?;
    // openssl puts the curve's name into a block of its own before the key.
    let block = blocks
        .iter()
        .find(|block| block.tag().ends_with("PRIVATE KEY"))
        .ok_or_else(|| unusable("there is no private key in it"))?;
    let encrypted = block.tag().starts_with("ENCRYPTED") || block.headers().iter().next().is_some();
    if encrypted {
        return Err(unusable("it is encrypted"));
    }
    let pkcs8 = match block.tag() {
        "PRIVATE KEY" => block.contents().to_vec(),
        "RSA PRIVATE KEY" => wrap_rsa(block.contents()),
        "EC PRIVATE KEY" => {
            wrap_ec(block.contents()).ok_or_else(|| unusable("the name of its curve is missing"))?
        }
        _ => return Err(unusable("its kind is unknown")),
    };
    KeyPair::try_from(pkcs8).map_err(|_| {
        unusable("it is damaged, or of another kind than RSA of 2048 to 4096 bits, P-256, P-384 and Ed25519")
    })
}

/// `PrivateKeyInfo` of RFC 5208 around a PKCS#1 key.
fn wrap_rsa(key: &[u8]) -> Vec<u8> {
    wrap(key, |algorithm| {
        algorithm.next().write_oid(&ObjectIdentifier::from_slice(RSA_ENCRYPTION));
        algorithm.next().write_null();
    })
}

/// The same around a SEC 1 key, whose curve moves into the algorithm.
fn wrap_ec(key: &[u8]) -> Option<Vec<u8>> {
    // ECPrivateKey of RFC 5915: version, key, [0] curve, [1] public key.
    let curve = yasna::parse_der(key, |reader| {
        reader.read_sequence(|reader| {
            reader.next().read_u8()?;
            reader.next().read_bytes()?;
            let curve = reader.read_optional(|reader| {
                reader.read_tagged(yasna::Tag::context(0), |reader| reader.read_oid())
            })?;
            reader.read_optional(|reader| reader.read_der())?;
            Ok(curve)
        })
    });
    let curve = curve.ok()??;
    Some(wrap(key, |algorithm| {
        algorithm.next().write_oid(&ObjectIdentifier::from_slice(EC_PUBLIC_KEY));
        algorithm.next().write_oid(&curve);
    }))
}

fn wrap(key: &[u8], algorithm: impl FnOnce(&mut yasna::DERWriterSeq)) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(0);
            writer.next().write_sequence(algorithm);
            writer.next().write_bytes(key);
        });
    })
}
