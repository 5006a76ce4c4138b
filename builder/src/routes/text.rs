//! Routes in the languages of those who install them; sessions for those who learn them.

use std::fmt::Write;

use super::{PodRoute, PodRoutes, RouterSessions};

/// Columns that comments are wrapped to.
const WIDTH: usize = 100;

/// Who reads the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Commands of iproute2; run a second time they change nothing.
    Ip,
    /// For FRR, to be included or pasted into vtysh: static routes (staticd), or with routers that speak BGP their
    /// sessions with the nodes (bgpd).
    Frr,
    /// For BIRD 2, to be included into bird.conf: a static protocol per family, or with routers that speak BGP their
    /// sessions with the nodes.
    Bird,
    /// One JSON object.
    Json,
}

impl PodRoutes {
    /// The routes in that language, ending with a line feed.
    pub fn text(&self, format: Format) -> String {
        match format {
            Format::Ip => self.lines("#", |route| {
                let family = if route.via.is_ipv4() { "-4" } else { "-6" };
                // `replace`, so that a second time is no error.
                format!("ip {family} route replace {} via {}", route.pod_cidr, route.via)
            }),
            Format::Frr if !self.sessions.is_empty() => {
                self.each_router("!", |sessions| sessions.frr(&self.cluster))
            }
            Format::Bird if !self.sessions.is_empty() => self.each_router("#", RouterSessions::bird),
            Format::Frr => self.lines("!", |route| {
                let family = if route.via.is_ipv4() { "ip" } else { "ipv6" };
                format!("{family} route {} {}", route.pod_cidr, route.via)
            }),
            Format::Bird => self.bird(),
            Format::Json => {
                serde_json::to_string_pretty(self).expect("routes are strings and addresses") + "\n"
            }
        }
    }

    /// A comment with what it is for, and the sessions of each router.
    fn each_router(&self, comment: &str, text: impl Fn(&RouterSessions) -> String) -> String {
        let routers: Vec<String> = self.sessions.iter().map(text).collect();
        self.heading(comment) + &routers.join(&format!("{comment}\n"))
    }

    /// A comment with what it is for, and each node's name above its line.
    fn lines(&self, comment: &str, line: impl Fn(&PodRoute) -> String) -> String {
        let mut out = self.heading(comment);
        for route in &self.routes {
            writeln!(out, "{comment} {}\n{}", route.node, line(route)).expect("a String takes everything");
        }
        out
    }

    fn bird(&self) -> String {
        let mut out = self.heading("#");
        for (number, channel) in [(4, "ipv4"), (6, "ipv6")] {
            let mut routes =
                self.routes.iter().filter(|route| route.via.is_ipv4() == (number == 4)).peekable();
            if routes.peek().is_none() {
                continue;
            }
            // A symbol of BIRD has no hyphen (its manual, chapter 2), names of clusters have.
            let name = self.cluster.replace('-', "_");
            let mut block = format!("protocol static pods{number}_{name} {{\n    {channel};\n");
            for route in routes {
                writeln!(block, "    route {} via {}; # {}", route.pod_cidr, route.via, route.node)
                    .expect("a String takes everything");
            }
            out += &block;
            out += "}\n";
        }
        out
    }

    fn heading(&self, comment: &str) -> String {
        let mut out = format!("{comment} Pods of cluster {}, by node.\n", self.cluster);
        let mut line = comment.to_owned();
        for word in self.purpose.split(' ') {
            if line.len() + 1 + word.len() > WIDTH {
                out += &line;
                out.push('\n');
                comment.clone_into(&mut line);
            }
            line.push(' ');
            line += word;
        }
        out + &line + "\n"
    }
}
