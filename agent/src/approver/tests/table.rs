//! The table of requests that wait: what is kept, for how long, and what is said of it.

use super::*;

#[test]
fn the_answer_counts_for_one_version_of_the_request() {
    let object = serde_json::from_str(
        r#"{ "metadata": { "name": "csr-1", "resourceVersion": "42", "uid": "x" }, "spec": {} }"#,
    );
    let answer = crate::approver::answer(&object.unwrap(), "Approved", "BootwrightApprove", "why");
    assert_eq!(
        answer,
        serde_json::json!({
            "metadata": { "resourceVersion": "42" },
            "status": { "conditions": [
                { "type": "Approved", "status": "True", "reason": "BootwrightApprove", "message": "why" }
            ] },
        })
    );
}

/// The request of w1 as the API server has it.
fn object(name: &str, version: &str) -> CertificateSigningRequest {
    let mut object = CertificateSigningRequest { spec: serving().spec(), ..Default::default() };
    object.metadata.name = Some(name.to_owned());
    object.metadata.resource_version = Some(version.to_owned());
    object
}

#[test]
fn a_request_that_is_too_long_is_not_kept_and_is_denied() {
    let mut object = object("csr-1", "1");
    let text = object.spec.request.clone();
    object = crate::approver::trimmed(object);
    assert_eq!(object.spec.request, text);
    object.spec.request = "A".repeat(MOST_REQUEST + 1);
    let object = crate::approver::trimmed(object);
    assert!(object.spec.request.is_empty());
    assert_eq!(Request::read(&object.spec).unwrap_err(), RequestError::Encoding);
}

#[tokio::test]
async fn among_too_many_the_one_that_waited_longest_goes() {
    let table = Table::default();
    let mut table = table.lock().unwrap();
    let one = object("", "1");
    for number in 0..MOST_PENDING {
        let mut object = one.clone();
        object.metadata.name = Some(format!("csr-{number}"));
        crate::approver::set(&mut table, object, None);
    }
    table.get_mut("csr-7").unwrap().pause = AGAIN[1];
    crate::approver::set(&mut table, object("newcomer", "1"), None);
    assert_eq!(table.len(), MOST_PENDING);
    assert!(table.contains_key("newcomer") && !table.contains_key("csr-7"));
    // One that is listed anew waits on; one that changed is looked at as if it were new.
    for (version, pause) in [("1", AGAIN[1]), ("2", AGAIN[0])] {
        let mut known = table.remove("csr-8").unwrap();
        known.pause = AGAIN[1];
        crate::approver::set(&mut table, object("csr-8", version), Some(known));
        assert_eq!(table["csr-8"].pause, pause);
    }
}

#[tokio::test]
async fn a_silent_api_ends_the_round() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&calls);
    // Takes connections and closes them.
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let table = Table::default();
    for name in ["csr-1", "csr-2", "csr-3"] {
        crate::approver::set(&mut table.lock().unwrap(), object(name, "1"), None);
    }
    crate::approver::look_at_due(&client, &inventory(), &table).await;
    assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), 1);
    let pause = |name: &str| table.lock().unwrap()[name].pause;
    assert_eq!([pause("csr-1"), pause("csr-2"), pause("csr-3")], [AGAIN[0] * 2, AGAIN[0], AGAIN[0]]);
}

#[test]
fn messages_are_one_line_of_bounded_length() {
    let mut asked = serving();
    asked.spec.username = format!("x\napprover: csr-1 of w1: approved\u{1b}[2J{}", "y".repeat(5000));
    let Verdict::Deny(message) = asked.judge(None) else { panic!("approved") };
    let plain = crate::approver::plain(&message);
    assert!(plain.contains("xapprover: csr-1 of w1: approved[2J"), "{plain}");
    assert!(!plain.chars().any(char::is_control));
    assert_eq!(plain.chars().count(), MOST_MESSAGE);
}
