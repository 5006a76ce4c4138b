use std::net::{SocketAddr, TcpListener};

use network_namespaces::process::inside_namespace;

use super::testing::{Mock, Route};
use super::*;

const PATH: &str = "/latest/user-data";

fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn failed(route: Route) -> String {
    Mock::of(vec![route]).service().get(PATH, &[]).unwrap_err().why.to_string()
}

#[test]
fn what_is_there_is_read_and_what_is_not_is_none() {
    let mock = Mock::of(vec![Route::get(PATH, " w1 \n"), Route::get("/empty", "")]);
    let service = mock.service();
    assert_eq!(service.line(PATH, &[]).unwrap().as_deref(), Some("w1"));
    assert_eq!(service.line("/empty", &[]).unwrap(), None);
    assert_eq!(service.user_data("/empty", &[]).unwrap(), None);
    assert_eq!(service.get("/absent", &[]).unwrap(), None);
}

#[test]
fn what_passes_is_tried_again_and_what_stays_is_not() {
    let mock = Mock::of(vec![Route::get(PATH, "w1").busy(2)]);
    assert_eq!(mock.service().line(PATH, &[]).unwrap().as_deref(), Some("w1"));
    assert_eq!(mock.clients().len(), 3);

    let mock = Mock::of(vec![Route::get(PATH, "").status(500)]);
    let error = mock.service().get(PATH, &[]).unwrap_err();
    assert_eq!(error.why.to_string(), "the answer is 500 Internal Server Error");
    assert_eq!(mock.clients().len(), TRIES);

    let mock = Mock::of(vec![Route::get(PATH, "").status(403)]);
    assert!(mock.service().get(PATH, &[]).is_err());
    assert_eq!(mock.clients().len(), 1);
}

#[test]
fn nobody_is_followed_anywhere() {
    let route = Route::get(PATH, "").to(PATH);
    let mock = Mock::of(vec![route]);
    assert_eq!(mock.service().get(PATH, &[]).unwrap_err().why.to_string(), "the answer is 302 Found");
    assert_eq!(mock.clients().len(), 1);
}

#[test]
fn an_answer_has_an_end() {
    let huge = vec![b'#'; usize::try_from(MOST_ANSWER_BYTES).unwrap() + 1];
    let error = failed(Route::get(PATH, "").body(huge));
    assert_eq!(error, format!("the answer has more than {MOST_ANSWER_BYTES} bytes"));
}

#[test]
fn a_line_is_text_and_one() {
    for body in [b"<html>\n<body>".to_vec(), b"\xff\xfe".to_vec()] {
        let error = Mock::of(vec![Route::get(PATH, "").body(body)]).service().line(PATH, &[]).unwrap_err();
        assert!(matches!(error.why, Why::Unreadable(_)), "{error}");
    }
}

#[test]
fn who_does_not_answer_in_time_is_silent() {
    let slow = Mock::of(vec![Route::get(PATH, "w1").after(Duration::from_millis(300))]);
    let end = Instant::now() + Duration::from_millis(50);
    let service = Service::new(slow.address(), Port::Any, end);
    assert!(service.get(PATH, &[]).unwrap_err().is_silence());
    assert_eq!(slow.clients().len(), 1, "its time was over");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let SocketAddr::V4(closed) = listener.local_addr().unwrap() else { panic!("asked for IPv4") };
    drop(listener);
    assert!(Service::new(closed, Port::Any, later()).get(PATH, &[]).unwrap_err().is_silence());
}

/// In a namespace of its own, where root may have the ports that PID 1 may have.
#[test]
fn a_privileged_port_is_one() {
    if !inside_namespace("identity::fetch::tests::a_privileged_port_is_one") {
        return;
    }
    let mock = Mock::of(vec![Route::get(PATH, "w1")]);
    let service = Service::new(mock.address(), Port::Privileged, later());
    assert_eq!(service.line(PATH, &[]).unwrap().as_deref(), Some("w1"));
    assert_eq!(service.line(PATH, &[]).unwrap().as_deref(), Some("w1"));
    let clients = mock.clients();
    assert!(clients.iter().all(|client| (512..1024).contains(&client.port())), "{clients:?}");
}
