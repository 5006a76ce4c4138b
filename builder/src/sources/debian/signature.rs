//! Verifies an InRelease with `gpgv`, and returns what was signed and nothing around it.
//!
//! `gpgv` is what apt itself asks, and is on every Debian machine; an OpenPGP implementation in process
//! would be 150 crates more.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::keyring::{self, KeyringError};
use super::source::Trust;

/// Why an InRelease is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// No `gpgv`.
    #[error("gpgv, which verifies the archive's signature, is not installed; install the package gpgv")]
    NoGpgv,
    /// `gpgv` could not be run, or its files not be written.
    #[error("could not run gpgv in {path}: {source}")]
    Run {
        /// The temporary folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A keyring is unreadable.
    #[error("keyring {path}: {reason}; name a keyring that exists in [base] of the cluster file")]
    Keyring {
        /// The keyring.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Not a clear-signed document, or with text around it.
    #[error(
        "it is not a signed document: {reason}; a captive portal or a broken mirror may have answered instead"
    )]
    Form {
        /// What is wrong.
        reason: String,
    },
    /// The signature is wrong.
    #[error("its signature is wrong: the document was changed after it was signed; use another mirror")]
    Bad,
    /// Signed, but by nobody whom the keyring knows.
    #[error(
        "none of its signatures is by a trusted key (signed by {keys}); \
         update the package debian-archive-keyring, or set keyring in [base] of the cluster file"
    )]
    Untrusted {
        /// Key ids, with what is wrong about each.
        keys: String,
    },
}

/// Hash algorithms that are no longer collision-free, as apt refuses them.
const WEAK: [&str; 2] = ["SHA1", "RIPEMD160"];

/// Verifies `document` and returns the signed text. `check_date` false also accepts signatures that are
/// newer than this machine's clock.
pub fn verify(document: &[u8], trust: &Trust, check_date: bool) -> Result<String, SignatureError> {
    check_form(document)?;
    let folder =
        tempfile::tempdir().map_err(|source| SignatureError::Run { path: std::env::temp_dir(), source })?;
    let run = |source| SignatureError::Run { path: folder.path().to_owned(), source };
    let input = folder.path().join("InRelease");
    fs::write(&input, document).map_err(run)?;
    let output = folder.path().join("Release");
    let mut command = Command::new("gpgv");
    // Status lines alone on standard error: nothing that the document contains can look like one.
    command.args(["--homedir".as_ref(), folder.path().as_os_str()]);
    command.args(["--status-fd", "2", "--logger-fd", "1", "--output"]).arg(&output);
    for algorithm in WEAK {
        command.args(["--weak-digest", algorithm]);
    }
    if !check_date {
        command.arg("--ignore-time-conflict");
    }
    for (number, bytes) in keyrings(trust)?.iter().enumerate() {
        let path = folder.path().join(format!("keyring-{number}.gpg"));
        fs::write(&path, bytes).map_err(run)?;
        command.arg("--keyring").arg(path);
    }
    command.arg(&input).stdin(Stdio::null()).env("LC_ALL", "C");
    let result = command.output().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SignatureError::NoGpgv,
        _ => run(source),
    })?;
    judge(&String::from_utf8_lossy(&result.stderr), &trust.fingerprints)?;
    let text = fs::read(&output).map_err(run)?;
    String::from_utf8(text).map_err(|_| SignatureError::Form { reason: "it is not UTF-8".to_owned() })
}

fn keyrings(trust: &Trust) -> Result<Vec<Vec<u8>>, SignatureError> {
    let bad = |path: String, reason: String| SignatureError::Keyring { path, reason };
    let mut keyrings = Vec::new();
    for path in &trust.keyrings {
        let shown = path.display().to_string();
        let bytes = fs::read(path).map_err(|error| bad(shown.clone(), error.to_string()))?;
        match keyring::binary(&bytes) {
            Ok(bytes) => keyrings.push(bytes),
            // An empty one among several (trusted.gpg of a fresh machine) is no fault.
            Err(KeyringError::Empty) if trust.keyrings.len() > 1 => {}
            Err(error) => return Err(bad(shown, error.to_string())),
        }
    }
    if let Some(embedded) = &trust.embedded {
        let bytes = keyring::binary(embedded.as_bytes());
        keyrings.push(bytes.map_err(|error| bad("in the apt source".to_owned(), error.to_string()))?);
    }
    Ok(keyrings)
}

/// One clear-signed message (RFC 9580, section 7) from the first byte to the last: `gpgv` would pass over
/// text around it, and a reader that is less strict than it could be given other text than it verified.
fn check_form(document: &[u8]) -> Result<(), SignatureError> {
    let form = |reason: &str| SignatureError::Form { reason: reason.to_owned() };
    let text = std::str::from_utf8(document).map_err(|_| form("it is not UTF-8"))?;
    let markers: Vec<&str> =
        text.lines().map(str::trim_end).filter(|line| line.starts_with("-----")).collect();
    if markers.is_empty() {
        return Err(form("it has no signature"));
    }
    let expected = [
        "-----BEGIN PGP SIGNED MESSAGE-----",
        "-----BEGIN PGP SIGNATURE-----",
        "-----END PGP SIGNATURE-----",
    ];
    if markers != expected {
        return Err(form("it is not exactly one signed message"));
    }
    if !text.starts_with(expected[0]) || !text.trim_end().ends_with(expected[2]) {
        return Err(form("there is text outside of the signed message"));
    }
    Ok(())
}

/// Reads `gpgv`'s status lines (doc/DETAILS of GnuPG). Its exit status alone says little: an archive is
/// signed by several keys, and one unknown key among them makes it fail.
fn judge(status: &str, fingerprints: &[String]) -> Result<(), SignatureError> {
    let mut good = false;
    let mut trusted = false;
    let mut problems = Vec::new();
    for line in status.lines() {
        let Some(line) = line.strip_prefix("[GNUPG:] ") else { continue };
        let mut words = line.split(' ');
        let (keyword, first) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        match keyword {
            "BADSIG" => return Err(SignatureError::Bad),
            // A signature starts here; VALIDSIG follows for expired and revoked keys, too.
            "NEWSIG" => good = false,
            "GOODSIG" => good = true,
            "EXPSIG" => problems.push(format!("{first}: signature expired")),
            "EXPKEYSIG" => problems.push(format!("{first}: key expired")),
            "REVKEYSIG" => problems.push(format!("{first}: key revoked")),
            "NO_PUBKEY" => problems.push(format!("{first}: key unknown")),
            "VALIDSIG" if good => {
                let primary = words.next_back().unwrap_or("");
                if allowed(first, primary, fingerprints) {
                    trusted = true;
                } else {
                    problems.push(format!("{primary}: not the key of signed-by"));
                }
            }
            _ => {}
        }
    }
    if trusted {
        return Ok(());
    }
    let keys = if problems.is_empty() { "nobody".to_owned() } else { problems.join(", ") };
    Err(SignatureError::Untrusted { keys })
}

fn allowed(key: &str, primary: &str, fingerprints: &[String]) -> bool {
    fingerprints.is_empty()
        || fingerprints.iter().any(|wanted| match wanted.strip_suffix('!') {
            Some(exactly) => exactly == key,
            None => wanted == key || wanted == primary,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 0123 Archive\n\
        [GNUPG:] VALIDSIG AAAA 2026-01-01 1 0 4 0 1 8 01 BBBB\n";

    #[test]
    fn one_good_signature_among_unknown_ones_is_enough() {
        let status =
            format!("[GNUPG:] NEWSIG\n[GNUPG:] ERRSIG 99 1 8 01 1 9 -\n[GNUPG:] NO_PUBKEY 99\n{VALID}");
        judge(&status, &[]).unwrap();
        judge(&status, &["BBBB".to_owned()]).unwrap();
        judge(&status, &["AAAA!".to_owned()]).unwrap();
        assert!(judge(&status, &["BBBB!".to_owned()]).is_err());
    }

    #[test]
    fn a_bad_one_or_an_expired_key_is_not() {
        let bad = format!("{VALID}[GNUPG:] NEWSIG\n[GNUPG:] BADSIG 99 x\n");
        assert!(matches!(judge(&bad, &[]), Err(SignatureError::Bad)));
        let expired = "[GNUPG:] NEWSIG\n[GNUPG:] EXPKEYSIG 99 x\n[GNUPG:] VALIDSIG AAAA 2026-01-01 1 0 4 0 1 8 01 BBBB\n";
        let error = judge(expired, &[]).unwrap_err().to_string();
        assert!(error.contains("99: key expired"), "{error}");
        assert!(matches!(judge("", &[]), Err(SignatureError::Untrusted { .. })));
    }

    #[test]
    fn only_one_message_and_nothing_around_it() {
        let message = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nx\n-----BEGIN PGP SIGNATURE-----\n\nAA==\n-----END PGP SIGNATURE-----\n";
        check_form(message.as_bytes()).unwrap();
        for wrong in [
            format!("Origin: Debian\n{message}"),
            format!("{message}Origin: Debian\n"),
            format!("{message}{message}"),
            "<html>log in first</html>".to_owned(),
        ] {
            assert!(matches!(check_form(wrong.as_bytes()), Err(SignatureError::Form { .. })), "{wrong}");
        }
    }
}
