//! Somebody on the link of the nodes announces what is not theirs.

use std::net::IpAddr;
use std::path::Path;

use bootwright_model::cluster::ClusterFile;
use bootwright_model::families::{Family, PerFamily};

use super::bird::Program;
use super::node::{Fabric, Node};
use super::places::{address, cluster_file, digit, part, range};

/// In the cluster file, and down.
const DOWN: u8 = 15;
/// The same, with a smaller range than the others have.
const SMALL: u8 = 16;
/// In no cluster file.
const NOBODY: u8 = 99;

/// The cluster file of the victim: the nodes that the others know, and two that are down.
pub fn victims_file(families: &[Family]) -> ClusterFile {
    let mut file = cluster_file(families, &[(20, 11), (20, 12), (20, 13), (20, DOWN), (20, SMALL)], &[]);
    let parts = families.iter().map(|family| part(*family, SMALL).parse().unwrap());
    file.nodes[4].pod_cidr = Some(PerFamily::new(parts).unwrap());
    file
}

/// Only what is nobody's, and of a node's size, is taken from someone who joined, and from a node of the file its own.
pub fn story(fabric: &Fabric, scratch: &Path, program: &Program, victim: &mut Node) {
    let of_nodes =
        |number| fabric.families.iter().map(move |f| (*f, range(*f, number), address(*f, 20, number)));
    let honest: Vec<(Family, String, IpAddr)> = [12, 13].into_iter().flat_map(of_nodes).collect();
    for (number, own) in [(NOBODY, None), (SMALL, Some(SMALL))] {
        let net = fabric.machine(20, number);
        let mut configuration = "log stderr all;\nrouter id 10.20.0.99;\nprotocol device { }\n".to_owned();
        let mut taken = honest.clone();
        for family in fabric.families.iter().copied() {
            configuration += &liar(family, number, victim.number);
            let gateway = address(family, 20, number);
            taken.push((family, range(family, 77), gateway));
            taken.extend(own.map(|own| (family, part(family, own), gateway)));
        }
        let bird = program.configured(&net, scratch, &format!("stranger{number}"), &configuration);
        victim.expect_ranges(&taken);
        bird.stop();
        victim.expect_ranges(&honest);
    }
}

/// What it has in its configuration for a family.
fn liar(family: Family, own: u8, victim: u8) -> String {
    let number = digit(family);
    let (half, around, elsewhere, everything) = match family {
        Family::V4 => ("10.10.11.128/25", "10.10.0.0/16", "10.98.0.0/24", "0.0.0.0/0"),
        Family::V6 => ("fd00:10:0:11:8000::/65", "fd00:10::/48", "fd00:98::/64", "::/0"),
    };
    let whole = [victim, 12, DOWN, SMALL, 77].map(|node| range(family, node));
    // As long as a node's range is, so that the length alone is no reason to refuse them.
    let parts = [victim, 12, DOWN, SMALL].map(|node| part(family, node));
    let others = [half, around, elsewhere, everything].map(str::to_owned);
    let routes: String = [&whole[..], &parts, &others]
        .concat()
        .iter()
        .map(|range| format!("    route {range} unreachable;\n"))
        .collect();
    format!(
        "protocol static lies{number} {{
    ipv{number};
{routes}}}
protocol bgp victim{number} {{
    local {} as 64512;
    neighbor {} as 64512;
    direct;
    connect delay time 1;
    ipv{number} {{
        import none;
        next hop self;
        export filter {{ bgp_local_pref = 4000; accept; }};
    }};
}}
",
        address(family, 20, own),
        address(family, 20, victim),
    )
}
