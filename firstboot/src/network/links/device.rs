//! Devices that are made: what the kernel is told of a VLAN, a bond or a bridge.

use bootwright_model::links::{self as described, BondMode, LacpRate, Link, TransmitHashPolicy};
use netlink_packet_route::link::{
    BondLacpRate, BondMode as Mode, BondXmitHashPolicy, BridgeStpState, InfoBond, InfoBridge, InfoData,
    InfoKind, InfoVlan,
};

/// The kernel's unit of a bridge's times: hundredths of a second (`USER_HZ`).
const BRIDGE_TICKS_PER_SECOND: u32 = 100;

/// Kind and options; nothing for a card. `primary` is the index of the bond's member of that name, once it is one.
pub(super) fn wanted(link: &Link, primary: Option<u32>) -> Option<(InfoKind, InfoData)> {
    if let Some(vlan) = &link.vlan {
        return Some((InfoKind::Vlan, InfoData::Vlan(vec![InfoVlan::Id(vlan.id)])));
    }
    if let Some(bond) = &link.bond {
        return Some((InfoKind::Bond, InfoData::Bond(bond_options(bond, primary))));
    }
    let bridge = link.bridge.as_ref()?;
    Some((InfoKind::Bridge, InfoData::Bridge(bridge_options(bridge))))
}

/// The options of `wanted` that `present` has not.
pub(super) fn missing(wanted: &InfoData, present: Option<&InfoData>) -> Option<InfoData> {
    fn rest<T: Clone + PartialEq>(wanted: &[T], present: &[T]) -> Option<Vec<T>> {
        let rest: Vec<T> = wanted.iter().filter(|option| !present.contains(option)).cloned().collect();
        (!rest.is_empty()).then_some(rest)
    }
    match (wanted, present) {
        (InfoData::Vlan(wanted), Some(InfoData::Vlan(present))) => rest(wanted, present).map(InfoData::Vlan),
        (InfoData::Bond(wanted), Some(InfoData::Bond(present))) => rest(wanted, present).map(InfoData::Bond),
        (InfoData::Bridge(wanted), Some(InfoData::Bridge(present))) => {
            rest(wanted, present).map(InfoData::Bridge)
        }
        (wanted, _) => Some(wanted.clone()),
    }
}

/// Whether these options can be changed only while the device is down, as most of a bond.
pub(super) fn needs_down(options: &InfoData) -> bool {
    let InfoData::Bond(options) = options else { return false };
    options.iter().any(|option| !matches!(option, InfoBond::Primary(_)))
}

/// In an order that the kernel takes: `updelay` and `downdelay` need `miimon`, and most need the mode.
fn bond_options(bond: &described::Bond, primary: Option<u32>) -> Vec<InfoBond> {
    let mode = match bond.mode {
        BondMode::BalanceRr => Mode::BalanceRr,
        BondMode::ActiveBackup => Mode::ActiveBackup,
        BondMode::BalanceXor => Mode::BalanceXor,
        BondMode::Broadcast => Mode::Broadcast,
        BondMode::Lacp => Mode::Ieee8023Ad,
        BondMode::BalanceTlb => Mode::BalanceTlb,
        BondMode::BalanceAlb => Mode::BalanceAlb,
    };
    let policy = bond.transmit_hash_policy.map(|policy| match policy {
        TransmitHashPolicy::Layer2 => BondXmitHashPolicy::Layer2,
        TransmitHashPolicy::Layer23 => BondXmitHashPolicy::Layer23,
        TransmitHashPolicy::Layer34 => BondXmitHashPolicy::Layer34,
        TransmitHashPolicy::Encap23 => BondXmitHashPolicy::Encap23,
        TransmitHashPolicy::Encap34 => BondXmitHashPolicy::Encap34,
    });
    let rate = bond.lacp_rate.map(|rate| match rate {
        LacpRate::Slow => BondLacpRate::Slow,
        LacpRate::Fast => BondLacpRate::Fast,
    });
    let mut options = vec![InfoBond::Mode(mode), InfoBond::MiiMon(bond.miimon)];
    options.extend(bond.up_delay.map(InfoBond::UpDelay));
    options.extend(bond.down_delay.map(InfoBond::DownDelay));
    options.extend(policy.map(InfoBond::XmitHashPolicy));
    options.extend(rate.map(InfoBond::AdLacpRate));
    options.extend(bond.min_links.map(InfoBond::MinLinks));
    options.extend(primary.map(InfoBond::Primary));
    options
}

fn bridge_options(bridge: &described::Bridge) -> Vec<InfoBridge> {
    let stp = if bridge.stp { BridgeStpState::KernelStp } else { BridgeStpState::Disabled };
    let delay = bridge.forward_delay.map(|seconds| seconds.saturating_mul(BRIDGE_TICKS_PER_SECOND));
    let delay = delay.map(InfoBridge::ForwardDelay);
    // Without STP a bridge forwards at once. With it the kernel refuses delays that the protocol does not know.
    delay.into_iter().chain([InfoBridge::StpState(stp)]).collect()
}

/// The kernel's module for a kind of device.
pub fn module(link: &Link) -> Option<&'static str> {
    match link {
        Link { vlan: Some(_), .. } => Some("8021q"),
        Link { bond: Some(_), .. } => Some("bonding"),
        Link { bridge: Some(_), .. } => Some("bridge"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(text: &str) -> Link {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn every_option_of_a_bond_goes_to_the_kernel() {
        let link = link(
            r#"
            name = "bond0"
            [bond]
            members = ["a", "b"]
            mode = "802.3ad"
            miimon = 50
            up-delay = 200
            down-delay = 100
            lacp-rate = "fast"
            transmit-hash-policy = "layer3+4"
            min-links = 2
            "#,
        );
        let (kind, data) = wanted(&link, Some(7)).unwrap();
        assert_eq!(kind, InfoKind::Bond);
        let InfoData::Bond(options) = &data else { panic!("{data:?}") };
        assert_eq!(
            options[..],
            [
                InfoBond::Mode(Mode::Ieee8023Ad),
                InfoBond::MiiMon(50),
                InfoBond::UpDelay(200),
                InfoBond::DownDelay(100),
                InfoBond::XmitHashPolicy(BondXmitHashPolicy::Layer34),
                InfoBond::AdLacpRate(BondLacpRate::Fast),
                InfoBond::MinLinks(2),
                InfoBond::Primary(7),
            ]
        );
        let present = InfoData::Bond(options[..6].to_vec());
        let rest = InfoData::Bond(vec![InfoBond::MinLinks(2), InfoBond::Primary(7)]);
        assert_eq!(missing(&data, Some(&present)), Some(rest));
        assert_eq!(missing(&data, Some(&data)), None);
    }

    #[test]
    fn modes_have_the_kernels_numbers() {
        let names = [
            "balance-rr",
            "active-backup",
            "balance-xor",
            "broadcast",
            "802.3ad",
            "balance-tlb",
            "balance-alb",
        ];
        for (number, name) in names.into_iter().enumerate() {
            let link = link(&format!("name = 'b'\nbond = {{ members = [], mode = '{name}' }}"));
            let Some((_, InfoData::Bond(options))) = wanted(&link, None) else { panic!("{name}") };
            let InfoBond::Mode(mode) = options[0] else { panic!("{options:?}") };
            assert_eq!(usize::from(u8::from(mode)), number, "{name}");
        }
    }
}
