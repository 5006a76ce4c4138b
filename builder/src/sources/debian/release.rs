//! The signed text of an InRelease: dates, names and the digests of the indexes
//! (the Debian repository format on wiki.debian.org/DebianRepository/Format).

use std::collections::BTreeMap;

use deb822_fast::Deb822;

use crate::digests::is_sha256;

/// Why a Release is not usable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// It is not in the format.
    #[error("it cannot be read: {reason}")]
    Form {
        /// What is wrong.
        reason: String,
    },
    /// It is for something else.
    #[error(
        "it is for suite {suite:?}, codename {codename:?}, and not for {wanted:?}; check mirror and suite in [base]"
    )]
    OtherSuite {
        /// Its suite.
        suite: String,
        /// Its codename.
        codename: String,
        /// What was asked for.
        wanted: String,
    },
    /// Its time is over.
    #[error(
        "it was valid until {until}, which is over: the mirror is not updated any more, or an old file is replayed; \
         use another mirror, or check this machine's clock (apt's Acquire::Check-Valid-Until \"false\" is honoured)"
    )]
    Expired {
        /// The date as written.
        until: String,
    },
    /// It is from the future.
    #[error("its date is {date}, which is in the future: set this machine's clock")]
    Future {
        /// The date as written.
        date: String,
    },
}

/// Digest and size of one index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// SHA-256.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// A Release that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// `Debian`.
    pub origin: String,
    /// `oldstable-security`.
    pub suite: String,
    /// `bookworm-security`.
    pub codename: String,
    /// When it was made, seconds since the Unix epoch.
    pub date: u64,
    date_text: String,
    valid_until: Option<(u64, String)>,
    /// Whether files can be had under the name of their digest, where a mirror that is just being updated
    /// still has the old ones.
    pub by_hash: bool,
    /// Files by path below the suite's folder.
    pub files: BTreeMap<String, Listed>,
}

impl Release {
    /// Parses the signed text.
    pub fn parse(text: &str) -> Result<Release, ReleaseError> {
        let form = |reason: String| ReleaseError::Form { reason };
        let document: Deb822 = text.parse().map_err(|error| form(format!("{error}")))?;
        let mut paragraphs = document.iter();
        let paragraph = paragraphs.next().ok_or_else(|| form("it is empty".to_owned()))?;
        let field = |name| paragraph.get(name).map(str::trim);
        let date_text = field("Date").ok_or_else(|| form("it has no Date".to_owned()))?.to_owned();
        let date = |text: &str| parse_date(text).ok_or_else(|| form(format!("{text:?} is not a date")));
        let mut files = BTreeMap::new();
        for line in field("SHA256").unwrap_or("").lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [sha256, size, path] if is_sha256(sha256) && size.parse::<u64>().is_ok() => {
                    let size = size.parse().map_err(|_| form(format!("{size:?} is not a size")))?;
                    files.insert((*path).to_owned(), Listed { sha256: (*sha256).to_owned(), size });
                }
                _ => return Err(form(format!("{line:?} is not a digest, a size and a path"))),
            }
        }
        if files.is_empty() {
            return Err(form("it lists no SHA256 of any file".to_owned()));
        }
        Ok(Release {
            origin: field("Origin").unwrap_or("").to_owned(),
            suite: field("Suite").unwrap_or("").to_owned(),
            codename: field("Codename").unwrap_or("").to_owned(),
            date: date(&date_text)?,
            date_text,
            valid_until: match field("Valid-Until") {
                Some(text) => Some((date(text)?, text.to_owned())),
                None => None,
            },
            by_hash: field("Acquire-By-Hash") == Some("yes"),
            files,
        })
    }

    /// Whether it is what was asked for. `now` in seconds since the Unix epoch; a check is left out if
    /// the machine's apt configuration leaves it out.
    pub fn check(&self, wanted: &str, now: u64, valid_until: bool, date: bool) -> Result<(), ReleaseError> {
        if wanted != self.suite && wanted != self.codename {
            return Err(ReleaseError::OtherSuite {
                suite: self.suite.clone(),
                codename: self.codename.clone(),
                wanted: wanted.to_owned(),
            });
        }
        // As apt: ten seconds for clocks that are not exactly set.
        if date && self.date > now.saturating_add(10) {
            return Err(ReleaseError::Future { date: self.date_text.clone() });
        }
        match &self.valid_until {
            Some((until, text)) if valid_until && *until < now => {
                Err(ReleaseError::Expired { until: text.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// `Sat, 11 Jul 2026 10:16:37 UTC` in seconds since the Unix epoch; archives write no other zone (`GMT`
/// and `+0000` are the same one).
pub fn parse_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "UTC" | "GMT" | "+0000" | "Z"] = words.as_slice() else { return None };
    let number = |text: &str, low: u64, high: u64| {
        text.parse::<u64>().ok().filter(|number| (low..=high).contains(number))
    };
    let day = number(day, 1, 31)?;
    let month = MONTHS.iter().position(|name| name == month)? as u64 + 1;
    let year = number(year, 1970, 9999)?;
    let parts: Vec<&str> = time.split(':').collect();
    let [hour, minute, second] = parts.as_slice() else { return None };
    let (hour, minute, second) = (number(hour, 0, 23)?, number(minute, 0, 59)?, number(second, 0, 60)?);
    Some(days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days in the Gregorian calendar. The year begins in March here, so that the leap day is its last one.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = if month <= 2 { month + 9 } else { month - 3 };
    let leap_days = year / 4 - year / 100 + year / 400;
    let before_month = (153 * month + 2) / 5;
    // 719468 days lie between 0000-03-01 and 1970-01-01.
    365 * year + leap_days + before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Origin: Debian\nSuite: oldstable\nCodename: bookworm\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n\
        Valid-Until: Sat, 18 Jul 2026 10:16:37 UTC\nAcquire-By-Hash: yes\nMD5Sum:\n 0ed6 1 main/x\nSHA256:\n \
        515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f 50060337 main/binary-amd64/Packages\n";

    #[test]
    fn dates() {
        // From `date -u -d … +%s`.
        assert_eq!(parse_date("Sat, 11 Jul 2026 10:16:37 UTC"), Some(1_783_764_997));
        assert_eq!(parse_date("Thu, 29 Feb 2024 23:59:59 +0000"), Some(1_709_251_199));
        assert_eq!(parse_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        for wrong in ["", "Sat, 11 Jul 2026 10:16:37 CEST", "Sat, 41 Jul 2026 10:16:37 UTC", "11 Jul 2026"] {
            assert_eq!(parse_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_dates_and_digests() {
        let release = Release::parse(TEXT).unwrap();
        assert_eq!(release.files["main/binary-amd64/Packages"].size, 50_060_337);
        let made = 1_783_764_997;
        let week = 7 * 86_400;
        release.check("bookworm", made, true, true).unwrap();
        release.check("oldstable", made + week, true, true).unwrap();
        assert!(matches!(release.check("trixie", made, true, true), Err(ReleaseError::OtherSuite { .. })));
        let late = release.check("bookworm", made + week + 1, true, true).unwrap_err();
        assert!(late.to_string().starts_with("it was valid until Sat, 18 Jul 2026 10:16:37 UTC"), "{late}");
        release.check("bookworm", made + week + 1, false, true).unwrap();
        assert!(matches!(release.check("bookworm", made - 60, true, true), Err(ReleaseError::Future { .. })));
        release.check("bookworm", made - 60, true, false).unwrap();
    }

    #[test]
    fn broken_ones_say_why() {
        let reason = |text: &str| Release::parse(text).unwrap_err().to_string();
        assert_eq!(reason("Suite: x\n"), "it cannot be read: it has no Date");
        assert_eq!(
            reason(&TEXT.replace("515e", "")),
            "it cannot be read: \"692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f 50060337 \
             main/binary-amd64/Packages\" is not a digest, a size and a path"
        );
        assert_eq!(
            reason("Date: Sat, 11 Jul 2026 10:16:37 UTC\n"),
            "it cannot be read: it lists no SHA256 of any file"
        );
    }
}
