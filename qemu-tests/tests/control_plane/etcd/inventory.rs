//! The three control planes as their cluster file has them.

use bootwright_model::cluster::Node;
use bootwright_model::node::NodeFacts;
use qemu_tests::control_plane::node;

/// Address of a machine by its last byte.
pub fn address(last: u8) -> String {
    format!("10.30.0.{last}/24")
}

/// What first boot knows of the machine `name` with this last byte.
pub fn facts(name: &str, last: u8) -> NodeFacts {
    let mut facts = node::facts();
    let first = facts.layer.file.nodes[0].clone();
    facts.layer.file.nodes = ["cp1", "cp2", "cp3"]
        .into_iter()
        .zip(21..)
        .map(|(name, last)| {
            let role = "control-plane".to_owned();
            Node { name: name.to_owned(), role, address: address(last).parse().unwrap(), ..first.clone() }
        })
        .collect();
    facts.layer.role = "control-plane".to_owned();
    facts.name = name.to_owned();
    facts.address = address(last).parse().unwrap();
    facts
}
