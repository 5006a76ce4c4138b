//! What the stage **clock** is told by right, wrong, ignorant and absent servers.

use std::path::Path;
use std::time::{Duration, Instant};

use firstboot::stages::clock::ask::{Answer, Question, Reply, ask};
use firstboot::stages::clock::verdict;
use network_namespaces::{Namespace, process::isolated};

use super::chronyd::{Chronyd, command};

/// How far from the truth a measurement may be, seconds: others may have the processors.
const EXACT: f64 = 0.5;
/// Eleven years: beyond 2036, where NTP's seconds begin anew.
const YEARS: f64 = 345_600_000.0;

fn asked(chronyd: &[String], net: &Namespace, scratch: &Path, servers: &[&str], seconds: u64) -> Vec<Answer> {
    let servers: Vec<String> = servers.iter().map(|server| (*server).to_owned()).collect();
    let scratch = scratch.join("asked");
    let patience = Duration::from_secs(seconds);
    net.enter(|| ask(&Question { chronyd, servers: &servers, patience, scratch: &scratch }))
}

fn behind(answer: &Answer) -> f64 {
    let Reply::Behind(behind) = answer.reply else { panic!("{answer:?}") };
    behind
}

fn story() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let chronyd = command(folder);
    let net = Namespace::new();
    let right = "127.0.0.1";
    let _right = Chronyd::server(&chronyd, &net, folder, right, "local stratum 3");
    // chronyd says what it corrects the clock by as soon as it has: with `-x`, in what it answers alone.
    let wrong = |address: &str, seconds: f64| {
        let lines = format!("bindacqaddress {address}\nserver {right} iburst offset {seconds}");
        let mut server = Chronyd::server(&chronyd, &net, folder, address, &lines);
        server.expect("System clock wrong by");
        server
    };
    let _ahead = wrong("127.0.0.2", 100.0);
    let _behind = wrong("127.0.0.3", -100.0);
    let _years = wrong("127.0.0.4", YEARS);
    let _ignorant = Chronyd::server(&chronyd, &net, folder, "127.0.0.5", "");

    // Each is measured, whatever it says; the folder of the logs is gone.
    let wanted = [("127.0.0.1", 0.0), ("127.0.0.2", 100.0), ("127.0.0.3", -100.0), ("127.0.0.4", YEARS)];
    for (server, wanted) in wanted {
        let answers = asked(&chronyd, &net, folder, &[server], 8);
        assert!((behind(&answers[0]) - wanted).abs() < EXACT, "{answers:?}");
        assert!(!folder.join("asked").exists());
    }

    // One among three that is years off is outvoted, and told; one that is silent holds nothing up.
    let began = Instant::now();
    let answers = asked(&chronyd, &net, folder, &["127.0.0.4", "127.0.0.1", "127.0.0.9", "127.0.0.2"], 30);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let time = verdict::time(&answers).unwrap();
    assert_eq!(time.server, "127.0.0.2");
    assert!((time.behind - 100.0).abs() < EXACT, "{time:?}");
    let others: Vec<&str> = time.others.iter().map(|(server, _)| server.as_str()).collect();
    assert_eq!(others, ["127.0.0.4", "127.0.0.1"]);

    // Nobody who knows: it ends in time, and says who was there.
    let began = Instant::now();
    let servers = ["127.0.0.9", "127.0.0.5", "nowhere.invalid"];
    let answers = asked(&chronyd, &net, folder, &servers, 3);
    let took = began.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_secs(20)).contains(&took), "{took:?}");
    assert_eq!(verdict::time(&answers), None);
    assert_eq!(
        verdict::told(&answers),
        "127.0.0.9 does not answer, 127.0.0.5 answers that it does not know the time itself, \
         nowhere.invalid does not answer"
    );
}

#[test]
fn servers_are_measured_outvoted_and_told_apart() {
    isolated("answers::servers_are_measured_outvoted_and_told_apart", story);
}
