//! What the ways to an address that nobody gives have in common, DHCPv4 and that of IPv6: how long it is held, what is
//! written down of it, and how it is kept.

pub mod carrier;
pub mod keep;
pub mod kept;
pub mod seen;
pub mod times;
