//! Routing rules (ip-rule(8)).

use std::io;
use std::net::IpAddr;

use bootwright_model::families::Family;
use bootwright_model::links::Rule;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Netlink;

/// All bits of a mark count, as iproute2 has it if no mask is written.
const WHOLE_MARK: u32 = u32::MAX;

impl Netlink {
    /// The rules of a family that look into a table and have no condition that [`Rule`] has not.
    pub fn rules(&mut self, family: Family) -> io::Result<Vec<Rule>> {
        let mut message = RuleMessage::default();
        message.header.family = number(family);
        let replies = self.request(RouteNetlinkMessage::GetRule(message), NLM_F_DUMP)?;
        let rules = replies.into_iter().filter_map(|reply| match reply {
            RouteNetlinkMessage::NewRule(message) => rule(&message),
            _ => None,
        });
        Ok(rules.collect())
    }

    /// Adds a rule.
    pub fn add_rule(&mut self, family: Family, rule: &Rule) -> io::Result<()> {
        let mut message = RuleMessage::default();
        message.header.family = number(family);
        message.header.action = RuleAction::ToTable;
        match u8::try_from(rule.table) {
            Ok(table) => message.header.table = table,
            Err(_) => message.attributes.push(RuleAttribute::Table(rule.table)),
        }
        if let Some(from) = rule.from {
            message.header.src_len = from.prefix_len();
            message.attributes.push(RuleAttribute::Source(from.network()));
        }
        if let Some(to) = rule.to {
            message.header.dst_len = to.prefix_len();
            message.attributes.push(RuleAttribute::Destination(to.network()));
        }
        if let Some(mark) = rule.mark {
            message.attributes.push(RuleAttribute::FwMark(mark));
            message.attributes.push(RuleAttribute::FwMask(WHOLE_MARK));
        }
        message.attributes.extend(rule.priority.map(RuleAttribute::Priority));
        self.request(RouteNetlinkMessage::NewRule(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }
}

fn number(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn rule(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    if header.action != RuleAction::ToTable || header.tos != 0 {
        return None;
    }
    let mut rule =
        Rule { from: None, to: None, mark: None, table: u32::from(header.table), priority: Some(0) };
    let network = |address: IpAddr, length| IpNet::new(address, length).ok();
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(address) => rule.from = network(*address, header.src_len),
            RuleAttribute::Destination(address) => rule.to = network(*address, header.dst_len),
            RuleAttribute::FwMark(mark) => rule.mark = Some(*mark),
            RuleAttribute::FwMask(WHOLE_MARK) => {}
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Priority(priority) => rule.priority = Some(*priority),
            // Who made it, and what the kernel says of every rule.
            RuleAttribute::Protocol(_)
            | RuleAttribute::SuppressPrefixLen(u32::MAX)
            | RuleAttribute::Other(_) => {}
            _ => return None,
        }
    }
    Some(rule)
}
