//! Keyrings in either form: `gpgv` takes binary ones only, people and Debian also keep armoured ones.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// Why a keyring is not one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// An armoured block that does not end.
    #[error("the armoured key block that begins in line {line} has no end line")]
    Unfinished {
        /// Line of the beginning, from 1.
        line: usize,
    },
    /// Not base64 where it should be.
    #[error("the armoured key block that begins in line {line} is damaged: {reason}")]
    Damaged {
        /// Line of the beginning, from 1.
        line: usize,
        /// What the decoder says.
        reason: String,
    },
    /// Nothing of a key in it.
    #[error("there is no OpenPGP public key in it")]
    Empty,
}

/// The keyring in binary form; armoured blocks (RFC 9580, section 6.2) are decoded and joined. The
/// checksum line of a block is passed over, as the RFC asks: damage shows in the signature.
pub fn binary(keyring: &[u8]) -> Result<Vec<u8>, KeyringError> {
    let armoured = std::str::from_utf8(keyring).ok().filter(|text| text.contains(BEGIN));
    let Some(text) = armoured else {
        // A packet has the highest bit set (RFC 9580, section 4.2); a keybox has its magic at byte 8.
        let packet = keyring.first().is_some_and(|byte| byte & 0x80 != 0);
        let keybox = keyring.get(8..12) == Some(b"KBXf");
        return if packet || keybox { Ok(keyring.to_vec()) } else { Err(KeyringError::Empty) };
    };
    let mut keys = Vec::new();
    let mut lines = text.lines().map(str::trim).enumerate();
    while let Some((index, line)) = lines.next() {
        if line != BEGIN {
            continue;
        }
        let line = index + 1;
        let mut block = String::new();
        let mut in_headers = true;
        loop {
            let Some((_, text)) = lines.next() else { return Err(KeyringError::Unfinished { line }) };
            match text {
                END => break,
                "" => in_headers = false,
                // Headers are `Name: value`; a colon is no base64. Some writers leave out the empty line.
                header if in_headers && header.contains(": ") => {}
                checksum if checksum.starts_with('=') => {}
                data => {
                    in_headers = false;
                    block.push_str(data);
                }
            }
        }
        let damaged = |error: base64::DecodeError| KeyringError::Damaged { line, reason: error.to_string() };
        keys.extend(STANDARD.decode(block).map_err(damaged)?);
    }
    if keys.is_empty() { Err(KeyringError::Empty) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn armoured_blocks_are_decoded_and_joined() {
        let text = format!(
            "some text\n{BEGIN}\nVersion: 1\n\nmQEN\nAAAA\n=abcd\n{END}\n{BEGIN}\n\nmQ==\n=abcd\n{END}\n"
        );
        assert_eq!(binary(text.as_bytes()).unwrap(), [0x99, 0x01, 0x0d, 0, 0, 0, 0x99]);
    }

    #[test]
    fn binary_ones_stay_and_others_are_refused() {
        assert_eq!(binary(&[0x99, 1]).unwrap(), [0x99, 1]);
        assert_eq!(binary(b"hello"), Err(KeyringError::Empty));
        assert_eq!(binary(b""), Err(KeyringError::Empty));
        assert_eq!(binary(BEGIN.as_bytes()), Err(KeyringError::Unfinished { line: 1 }));
        let damaged = format!("\n{BEGIN}\n\n!!!!\n{END}\n");
        assert!(matches!(binary(damaged.as_bytes()), Err(KeyringError::Damaged { line: 2, .. })));
    }
}
