//! What a DHCP server lends, checked: nothing here is taken from a message that cannot be so.

use std::net::Ipv4Addr;

use bootwright_model::links::DhcpOverrides;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::options::{self, Options, is_host};
use crate::network::lending::times::FOR_EVER;

/// Smallest MTU that is taken, bytes: what every IPv4 machine must take (RFC 791). Less would be of no use to pods.
const SMALLEST_MTU: u16 = 576;

/// A route that the server names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Route {
    /// Where to.
    pub to: Ipv4Net,
    /// Next hop; on the link itself if absent.
    pub via: Option<Ipv4Addr>,
}

/// A lease as the server gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lease {
    /// This machine's address with the prefix length of its network.
    pub address: Ipv4Net,
    /// Who lent it.
    pub server: Ipv4Addr,
    /// For how long, or [`FOR_EVER`].
    pub seconds: u32,
    /// T1: seconds until that server is asked for more.
    pub renewal_seconds: u32,
    /// T2: seconds until every server is asked for more.
    pub rebinding_seconds: u32,
    /// Default route and others, one to each place. Those on the link itself come first: others may need them.
    pub routes: Vec<Route>,
    /// Of the link, bytes.
    pub mtu: Option<u16>,
    /// In their order.
    pub resolvers: Vec<Ipv4Addr>,
    /// Domains that short names are looked up in.
    pub search: Vec<String>,
    /// NTP servers.
    pub time_servers: Vec<Ipv4Addr>,
}

/// Why an offer or acknowledgement is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Without it nobody can be asked for the address.
    #[error("it does not say which server it is from")]
    NoServer,
    /// No machine has it, or it is link-local: such an address machines take by themselves (RFC 3927).
    #[error("{0} is no address of a machine")]
    Address(Ipv4Addr),
    /// Missing, or not a row of ones and a row of zeros.
    #[error("its subnet mask is missing or none")]
    Mask,
    /// How long it lasts.
    #[error("it does not say how long the address is lent")]
    NoTime,
}

impl Lease {
    /// What a message with these options lends, whose field `yiaddr` is `address`.
    pub fn read(address: Ipv4Addr, options: &Options) -> Result<Lease, Unusable> {
        let server =
            options.address(options::SERVER).filter(|server| is_host(*server)).ok_or(Unusable::NoServer)?;
        let mask = options.address(options::SUBNET_MASK).ok_or(Unusable::Mask)?;
        let network = Ipv4Net::with_netmask(address, mask).map_err(|_| Unusable::Mask)?;
        let shared = network.prefix_len() < 31;
        if !is_host(address)
            || address.is_link_local()
            || network.prefix_len() == 0
            || shared && (address == network.network() || address == network.broadcast())
        {
            return Err(Unusable::Address(address));
        }
        let seconds =
            options.word(options::LEASE_SECONDS).filter(|seconds| *seconds > 0).ok_or(Unusable::NoTime)?;
        let (renewal_seconds, rebinding_seconds) = times(options, seconds);
        Ok(Lease {
            address: network,
            server,
            seconds,
            renewal_seconds,
            rebinding_seconds,
            routes: routes(address, options),
            mtu: options.half(options::MTU).filter(|mtu| *mtu >= SMALLEST_MTU),
            resolvers: options.addresses(options::RESOLVERS),
            search: options.search(),
            time_servers: options.addresses(options::TIME_SERVERS),
        })
    }

    /// Without what the description of a link leaves out.
    #[must_use]
    pub fn reduced(mut self, taken: &DhcpOverrides) -> Lease {
        if !taken.use_routes {
            self.routes.clear();
        }
        if !taken.use_dns {
            self.resolvers.clear();
            self.search.clear();
        }
        self.mtu = self.mtu.filter(|_| taken.use_mtu);
        if !taken.use_ntp {
            self.time_servers.clear();
        }
        self
    }

    /// How long it lasts, for a person: `for 3600 s`.
    pub fn time(&self) -> String {
        match self.seconds {
            FOR_EVER => "for ever".to_owned(),
            seconds => format!("for {seconds} s"),
        }
    }

    /// Next hop of the default route.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.routes.iter().find(|route| route.to.prefix_len() == 0)?.via
    }

    /// Whether a next hop is on the link as far as the address and the routes on the link say.
    pub fn is_neighbour(&self, hop: Ipv4Addr) -> bool {
        let on_link = self.routes.iter().filter(|route| route.via.is_none() && route.to.prefix_len() > 0);
        self.address.contains(&hop) || on_link.map(|route| route.to).any(|to| to.contains(&hop))
    }
}

/// T1 and T2, those of RFC 2131, section 4.4.5, where the server says none or says nonsense.
fn times(options: &Options, seconds: u32) -> (u32, u32) {
    let usual = |eighths: u64| u32::try_from(u64::from(seconds) * eighths / 8).unwrap_or(FOR_EVER).max(1);
    let renewal = options.word(options::RENEWAL_SECONDS).unwrap_or(usual(4));
    let rebinding = options.word(options::REBINDING_SECONDS).unwrap_or(usual(7));
    match 0 < renewal && renewal <= rebinding && rebinding <= seconds {
        true => (renewal, rebinding),
        false => (usual(4), usual(7)),
    }
}

/// Option 121 counts alone if it is there (RFC 3442), else that of Microsoft, else the first router.
fn routes(address: Ipv4Addr, options: &Options) -> Vec<Route> {
    let classless = [options::CLASSLESS_ROUTES, options::CLASSLESS_ROUTES_OF_MICROSOFT];
    let routers = || {
        let default = Ipv4Net::default();
        let first = options.addresses(options::ROUTERS).into_iter().find(|router| *router != address);
        first.map(|router| Route { to: default, via: Some(router) }).into_iter().collect()
    };
    let mut routes = classless.iter().find_map(|number| options.routes(*number)).unwrap_or_else(routers);
    // A machine that serves as a router gets its own address as the next hop, which means the link.
    for route in &mut routes {
        route.via = route.via.filter(|via| *via != address);
    }
    let mut known = Vec::new();
    routes.retain(|route| {
        let is_first = !known.contains(&route.to);
        let usable = is_first && route.via.is_none_or(is_host) && !route.to.addr().is_multicast();
        if usable {
            known.push(route.to);
        }
        usable
    });
    routes.sort_by_key(|route| route.via.is_some());
    routes
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A lease as most servers give it.
    pub fn lease() -> Lease {
        Lease {
            address: "10.9.0.50/24".parse().unwrap(),
            server: "10.9.0.1".parse().unwrap(),
            seconds: 120,
            renewal_seconds: 60,
            rebinding_seconds: 105,
            routes: vec![Route { to: Ipv4Net::default(), via: "10.9.0.1".parse().ok() }],
            mtu: None,
            resolvers: Vec::new(),
            search: Vec::new(),
            time_servers: Vec::new(),
        }
    }

    fn message(options: &[&[u8]]) -> Options {
        let mut bytes = vec![0; 240];
        bytes.extend(options.concat());
        Options::of(&bytes)
    }

    const PLAIN: [&[u8]; 4] =
        [&[1, 4, 255, 255, 255, 0], &[54, 4, 10, 9, 0, 1], &[51, 4, 0, 0, 0, 120], &[3, 4, 10, 9, 0, 1]];

    fn with(option: &[u8]) -> Lease {
        let mut all = PLAIN.to_vec();
        all.push(option);
        Lease::read(Ipv4Addr::new(10, 9, 0, 50), &message(&all)).unwrap()
    }

    #[test]
    fn what_is_absent_is_as_the_rfc_says() {
        assert_eq!(with(&[]), lease());
        assert_eq!(lease().gateway(), "10.9.0.1".parse().ok());
    }

    #[test]
    fn classless_routes_count_alone() {
        let lease = with(&[121, 14, 0, 10, 99, 0, 1, 32, 10, 99, 0, 1, 0, 0, 0, 0]);
        let shown: Vec<_> = lease.routes.iter().map(|route| (route.to.to_string(), route.via)).collect();
        assert_eq!(shown, [("10.99.0.1/32".into(), None), ("0.0.0.0/0".into(), "10.99.0.1".parse().ok())]);
        assert!(lease.is_neighbour(Ipv4Addr::new(10, 99, 0, 1)));
        assert!(!lease.is_neighbour(Ipv4Addr::new(10, 99, 0, 2)));
        assert_eq!(with(&[249, 5, 0, 10, 9, 0, 7]).gateway(), "10.9.0.7".parse().ok());
        // A second one to the same place would replace the first in the kernel.
        let twice = with(&[121, 10, 0, 10, 9, 0, 7, 0, 10, 9, 0, 8]);
        assert_eq!((twice.routes.len(), twice.gateway()), (1, "10.9.0.7".parse().ok()));
        // Cut off: the router is better than none.
        assert_eq!(with(&[121, 2, 24, 10]).gateway(), "10.9.0.1".parse().ok());
    }

    #[test]
    fn a_clouds_servers_may_be_link_local_and_the_machine_may_not() {
        // As Google lends it: the router is on no network of the address.
        let google: [&[u8]; 8] = [
            &[1, 4, 255, 255, 255, 255],
            &[54, 4, 169, 254, 169, 254],
            &[51, 4, 0, 1, 81, 128],
            &[3, 4, 10, 128, 0, 1],
            &[6, 4, 169, 254, 169, 254],
            &[42, 4, 169, 254, 169, 254],
            &[26, 2, 5, 180],
            &[121, 14, 32, 10, 128, 0, 1, 0, 0, 0, 0, 0, 10, 128, 0, 1],
        ];
        let near = Ipv4Addr::new(169, 254, 169, 254);
        let lease = Lease::read(Ipv4Addr::new(10, 128, 0, 2), &message(&google)).unwrap();
        assert_eq!(lease.address.to_string(), "10.128.0.2/32");
        assert_eq!((lease.server, lease.seconds, lease.mtu), (near, 86_400, Some(1460)));
        assert_eq!((&lease.resolvers[..], &lease.time_servers[..]), (&[near][..], &[near][..]));
        let router = Ipv4Addr::new(10, 128, 0, 1);
        assert_eq!((lease.gateway(), lease.is_neighbour(router)), (Some(router), true));
        // Next hops there are, too.
        assert_eq!(with(&[121, 5, 0, 169, 254, 0, 1]).gateway(), Some(Ipv4Addr::new(169, 254, 0, 1)));
        let refused = Lease::read(Ipv4Addr::new(169, 254, 7, 7), &message(&google)).unwrap_err();
        assert_eq!(refused, Unusable::Address(Ipv4Addr::new(169, 254, 7, 7)));
    }

    #[test]
    fn what_a_description_leaves_out_is_not_taken() {
        let all = Lease {
            mtu: Some(1400),
            resolvers: vec![Ipv4Addr::new(10, 9, 0, 2)],
            search: vec!["lab.example".into()],
            time_servers: vec![Ipv4Addr::new(10, 9, 0, 3)],
            ..lease()
        };
        assert_eq!(all.clone().reduced(&DhcpOverrides::default()), all);
        let none = DhcpOverrides { use_routes: false, use_dns: false, use_mtu: false, use_ntp: false };
        assert_eq!(all.reduced(&none), Lease { routes: Vec::new(), ..lease() });
    }

    #[test]
    fn how_long_it_lasts_is_told() {
        assert_eq!(lease().time(), "for 120 s");
        assert_eq!(Lease { seconds: FOR_EVER, ..lease() }.time(), "for ever");
    }

    #[test]
    fn times_that_cannot_be_are_replaced() {
        let times = |t1: u8, t2: u8| {
            let lease = with(&[58, 4, 0, 0, 0, t1, 59, 4, 0, 0, 0, t2]);
            (lease.renewal_seconds, lease.rebinding_seconds)
        };
        assert_eq!(times(2, 4), (2, 4));
        for (t1, t2) in [(0, 4), (5, 4), (60, 121)] {
            assert_eq!(times(t1, t2), (60, 105), "{t1} {t2}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let read =
            |address: [u8; 4], options: &[&[u8]]| Lease::read(address.into(), &message(options)).unwrap_err();
        assert_eq!(read([10, 9, 0, 50], &PLAIN[..1]), Unusable::NoServer);
        assert_eq!(read([10, 9, 0, 50], &PLAIN[1..]), Unusable::Mask);
        assert_eq!(read([10, 9, 0, 50], &PLAIN[..2]), Unusable::NoTime);
        for address in
            [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4], [10, 9, 0, 0], [10, 9, 0, 255]]
        {
            assert_eq!(read(address, &PLAIN), Unusable::Address(address.into()));
        }
        let holes: [&[u8]; 3] = [&[1, 4, 255, 0, 255, 0], PLAIN[1], PLAIN[2]];
        assert_eq!(read([10, 9, 0, 50], &holes), Unusable::Mask);
    }
}
