//! What to make of several time servers' answers.

use super::ask::{Answer, Reply};

/// Servers that know the time differ by far less, seconds.
const AGREE: f64 = 1.0;

/// The time, as far as the servers agree on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Time {
    /// By how much our clock is behind, seconds.
    pub behind: f64,
    /// The server whose word it is.
    pub server: String,
    /// Servers that say something else, and by how much our clock is behind theirs, seconds.
    pub others: Vec<(String, f64)>,
}

/// The time by the servers that answered: of three or more the one in the middle, which one wrong server cannot move
/// far; of two the first that was named, as nothing says which of them is wrong. `None` if none answered.
pub fn time(answers: &[Answer]) -> Option<Time> {
    let known: Vec<(&str, f64)> = answers
        .iter()
        .filter_map(|answer| match answer.reply {
            Reply::Behind(behind) => Some((answer.server.as_str(), behind)),
            _ => None,
        })
        .collect();
    let mut sorted = known.clone();
    sorted.sort_by(|one, other| one.1.total_cmp(&other.1));
    let (server, behind) = if known.len() < 3 { *known.first()? } else { sorted[(sorted.len() - 1) / 2] };
    let others = known.iter().filter(|(_, other)| (other - behind).abs() > AGREE);
    Some(Time {
        behind,
        server: server.to_owned(),
        others: others.map(|(server, behind)| ((*server).to_owned(), *behind)).collect(),
    })
}

/// Who was asked, and what each answered, for a person.
pub fn told(answers: &[Answer]) -> String {
    let words = answers.iter().map(|Answer { server, reply }| match reply {
        Reply::Behind(behind) => format!("{server} says that the clock is {}", words(*behind)),
        Reply::Unsynchronised => format!("{server} answers that it does not know the time itself"),
        Reply::Silent => format!("{server} does not answer"),
        Reply::Unasked(why) => format!("{server} could not be asked ({why})"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// `3.5 s behind`, `11.0 days ahead`.
pub fn words(behind: f64) -> String {
    let side = if behind < 0.0 { "ahead" } else { "behind" };
    format!("{} {side}", length(behind))
}

/// A length of time, without its sign: `0.003 s`, `11.0 days`.
pub fn length(seconds: f64) -> String {
    let seconds = seconds.abs();
    match seconds {
        ..1.0 => format!("{seconds:.3} s"),
        ..7_200.0 => format!("{seconds:.1} s"),
        ..172_800.0 => format!("{:.1} hours", seconds / 3_600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(replies: &[Reply]) -> Vec<Answer> {
        let one = |(number, reply): (usize, &Reply)| Answer {
            server: format!("10.0.0.{number}"),
            reply: reply.clone(),
        };
        (1..).zip(replies).map(one).collect()
    }

    #[test]
    fn one_wrong_server_among_three_is_outvoted() {
        let told = answers(&[Reply::Behind(-3e8), Reply::Behind(5.0), Reply::Silent, Reply::Behind(5.2)]);
        let time = time(&told).unwrap();
        assert_eq!((time.behind, time.server.as_str()), (5.0, "10.0.0.2"));
        assert_eq!(time.others, [("10.0.0.1".to_owned(), -3e8)]);
    }

    #[test]
    fn of_two_the_first_named_counts() {
        let disagree = time(&answers(&[Reply::Silent, Reply::Behind(9.0), Reply::Behind(-9.0)])).unwrap();
        assert_eq!((disagree.behind, disagree.others.len()), (9.0, 1));
        assert_eq!(time(&answers(&[Reply::Silent, Reply::Unsynchronised])), None);
        assert_eq!(time(&[]), None);
    }

    #[test]
    fn everybody_is_told_of() {
        let answers = answers(&[
            Reply::Behind(-3.0),
            Reply::Unsynchronised,
            Reply::Silent,
            Reply::Unasked("no user".into()),
        ]);
        assert_eq!(
            told(&answers),
            "10.0.0.1 says that the clock is 3.0 s ahead, 10.0.0.2 answers that it does not know the time itself, \
             10.0.0.3 does not answer, 10.0.0.4 could not be asked (no user)"
        );
    }

    #[test]
    fn lengths_have_a_fitting_unit() {
        assert_eq!(length(-0.000_4), "0.000 s");
        assert_eq!(length(100.0), "100.0 s");
        assert_eq!(length(86_400.0), "24.0 hours");
        assert_eq!(length(345_600_000.0), "4000.0 days");
    }
}
