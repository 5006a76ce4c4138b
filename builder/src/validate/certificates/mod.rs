//! Certificates and how long they are valid.

pub mod handshake;

use time::OffsetDateTime;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::kubeconfig::{Kubeconfig, User};
use super::report::{Check, Finding};

/// Days before its end at which a certificate should have been renewed.
const DAYS_LEFT: i64 = 7;
/// A short-lived one should have been renewed before its last tenth.
const SHARE_LEFT: i64 = 10;

/// The authority and the client certificate of the kubeconfig, and what the server that it names shows.
pub fn of_kubeconfig(kubeconfig: &Kubeconfig, now: OffsetDateTime) -> Vec<Finding> {
    let mut findings = pem("authority of the kubeconfig", &kubeconfig.authority, now);
    if let User::Certificate { certificate, .. } = &kubeconfig.user {
        findings.extend(pem("client of the kubeconfig", certificate, now));
    }
    let shown = handshake::with_server(&kubeconfig.server);
    findings.push(match shown {
        Ok(certificate) => dates("API server", &certificate, now),
        Err(why) => Finding::failed(Check::Certificate, "API server", why, UNREAD),
    });
    findings
}

const UNREAD: &str = "`openssl s_client -showcerts` shows what is said there";

/// All certificates of a file: a bundle has one authority after the other.
fn pem(subject: &str, text: &[u8], now: OffsetDateTime) -> Vec<Finding> {
    let unread = |why: String| Finding::failed(Check::Certificate, subject, why, UNREAD);
    let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(text).collect();
    match blocks {
        Ok(blocks) => {
            // A kubelet's own file has its key behind the certificate.
            let certificates = blocks.iter().filter(|block| block.label == "CERTIFICATE");
            let found: Vec<Finding> =
                certificates.map(|block| dates(subject, &block.contents, now)).collect();
            if found.is_empty() { vec![unread("it holds no certificate".to_owned())] } else { found }
        }
        Err(error) => vec![unread(format!("not PEM: {error}"))],
    }
}

/// Whether a certificate (DER) is valid, and for how much longer.
pub fn dates(subject: &str, certificate: &[u8], now: OffsetDateTime) -> Finding {
    let failed = |why: String, advice: &str| Finding::failed(Check::Certificate, subject, why, advice);
    let parsed = match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => parsed,
        Err(error) => return failed(format!("not a certificate: {error}"), UNREAD),
    };
    let (begin, end) =
        (parsed.validity().not_before.to_datetime(), parsed.validity().not_after.to_datetime());
    let renew = "nodes renew their own certificates and workers' kubelets ask for theirs: look at the stage certificates, \
                 at the kubelet's log and at pending CertificateSigningRequests; the kubeconfig is written anew by \
                 `bootwright build`";
    if now < begin {
        return failed(
            format!("not valid before {}", begin.date()),
            "set the clock of the node that made it, or of this machine",
        );
    }
    if now > end {
        return failed(format!("not valid since {}", end.date()), renew);
    }
    let (left, lifetime) = (end - now, end - begin);
    let days = left.whole_days();
    if days < DAYS_LEFT && left.whole_seconds() < lifetime.whole_seconds() / SHARE_LEFT {
        return failed(format!("ends on {}, and was not renewed so far", end.date()), renew);
    }
    Finding::passed(Check::Certificate, subject, format!("until {}", end.date()))
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::super::report::Verdict;
    use super::*;

    fn found(begin: Duration, end: Duration) -> Finding {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut wanted = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        (wanted.not_before, wanted.not_after) = (now + begin, now + end);
        let certificate = wanted.self_signed(&key).unwrap();
        let finding = dates("kubelet of w1", certificate.der(), now);
        // As it stands in a kubeconfig.
        let text = certificate.pem();
        assert_eq!(pem("kubelet of w1", text.as_bytes(), now), std::slice::from_ref(&finding));
        let with_key = text.clone() + &key.serialize_pem();
        assert_eq!(pem("kubelet of w1", with_key.as_bytes(), now), std::slice::from_ref(&finding));
        assert_eq!(pem("kubelet of w1", text.repeat(2).as_bytes(), now), [finding.clone(), finding.clone()]);
        finding
    }

    #[test]
    fn a_certificate_has_to_be_valid_for_a_while() {
        let days = Duration::days;
        let why = |finding: Finding| match finding.verdict {
            Verdict::Failed { why, .. } => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            found(days(-1), days(364)).verdict,
            Verdict::Passed { seen: "until 2028-01-14".to_owned() }
        );
        assert_eq!(why(found(days(-365), days(-1))), "not valid since 2027-01-14");
        assert_eq!(why(found(days(1), days(365))), "not valid before 2027-01-16");
        assert_eq!(why(found(days(-360), days(5))), "ends on 2027-01-20, and was not renewed so far");
        // One of a day is renewed within the day.
        assert!(matches!(found(days(-1) / 2, days(1) / 2).verdict, Verdict::Passed { .. }));
        let error = dates("x", b"no", OffsetDateTime::UNIX_EPOCH);
        assert!(matches!(error.verdict, Verdict::Failed { .. }));
        let empty = pem("x", b"no", OffsetDateTime::UNIX_EPOCH);
        assert_eq!(why(empty[0].clone()), "it holds no certificate");
    }
}
