//! Tells Azure that the machine has started
//! (<https://learn.microsoft.com/azure/virtual-machines/linux/no-agent>). Until then its deployment is not done, and fails
//! after some time.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::identity::document;
use crate::identity::fetch::{FetchError, Service, Why};

/// The "wire server", the same in all of Azure.
pub const WIRE_SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(168, 63, 129, 16), 80);
const GOAL_STATE: &str = "/machine/?comp=goalstate";
const HEALTH: &str = "/machine?comp=health";
const VERSION: (&str, &str) = ("x-ms-version", "2012-11-30");

/// What the machine is asked to be, as far as the answer has to repeat it.
#[derive(Debug, PartialEq, Eq)]
struct GoalState {
    incarnation: String,
    container: String,
    instance: String,
}

/// Reports to a wire server.
pub fn report(server: &Service) -> Result<(), FetchError> {
    let answer = server.needed(GOAL_STATE, server.get(GOAL_STATE, &[VERSION])?)?;
    let goal = String::from_utf8_lossy(&answer);
    let goal = read(&goal).map_err(|why| server.error(GOAL_STATE, Why::Unreadable(why)))?;
    let headers = [VERSION, ("Content-Type", "text/xml;charset=utf-8")];
    server.post(HEALTH, &headers, &health(&goal)).map(drop)
}

fn read(text: &str) -> Result<GoalState, String> {
    let document = document::xml(text)?;
    let of = |name: &str| {
        let node = document.descendants().find(|node| node.has_tag_name(name));
        let text = node.and_then(|node| node.text()).unwrap_or_default().trim();
        // It is written into a document again, as it is.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        match !text.is_empty() && text.chars().all(plain) {
            true => Ok(text.to_owned()),
            false => Err(format!("{name} is missing or no identifier")),
        }
    };
    Ok(GoalState {
        incarnation: of("Incarnation")?,
        container: of("ContainerId")?,
        instance: of("InstanceId")?,
    })
}

fn health(goal: &GoalState) -> String {
    let GoalState { incarnation, container, instance } = goal;
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <Health>\n  \
           <GoalStateIncarnation>{incarnation}</GoalStateIncarnation>\n  \
           <Container>\n    \
             <ContainerId>{container}</ContainerId>\n    \
             <RoleInstanceList>\n      \
               <Role>\n        \
                 <InstanceId>{instance}</InstanceId>\n        \
                 <Health><State>Ready</State></Health>\n      \
               </Role>\n    \
             </RoleInstanceList>\n  \
           </Container>\n\
         </Health>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fetch::testing::{Mock, Route};

    const GOAL: &str = include_str!("fixtures/goal-state.xml");

    #[test]
    fn the_report_repeats_what_was_asked_for() {
        insta::assert_snapshot!(health(&read(GOAL).unwrap()), @r#"
        <?xml version="1.0" encoding="utf-8"?>
        <Health>
          <GoalStateIncarnation>1</GoalStateIncarnation>
          <Container>
            <ContainerId>c6d5526c-5ac2-4200-b6e2-56f2b70c5ab2</ContainerId>
            <RoleInstanceList>
              <Role>
                <InstanceId>b61f93d0-e1ed-40b2-b067-22c243233448.harbor-w1</InstanceId>
                <Health><State>Ready</State></Health>
              </Role>
            </RoleInstanceList>
          </Container>
        </Health>
        "#);
    }

    #[test]
    fn the_wire_server_is_asked_and_told() {
        let goal = Route::get(GOAL_STATE, GOAL).with(VERSION);
        let health = Route::post(HEALTH).with(VERSION);
        let mock = Mock::of(vec![goal.clone(), health]);
        report(&mock.service()).unwrap();
        assert_eq!(mock.clients().len(), 2);
        let refusing = Mock::of(vec![goal, Route::post(HEALTH).status(400)]);
        assert!(report(&refusing.service()).is_err());
    }

    #[test]
    fn what_is_no_goal_state_is_told() {
        for (text, why) in [
            ("<html><body>", "never closed"),
            ("<GoalState/>", "Incarnation is missing"),
            (&GOAL.replace("c6d5526c", "&lt;x"), "ContainerId is missing or no identifier"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
