//! rtnetlink by hand: messages written into one buffer, answers read where they lie.
//!
//! Not netlink-packet-route, which first boot uses for its links: it makes a value with a vector of attributes, some
//! with buffers of their own, of every message both ways, and at 5,000 peers there are 15,000. Here a batch is one
//! buffer and one `sendmsg`, only its last message asks for an acknowledgement (the kernel tells errors unasked, with
//! the number of the message), and a dump is read without an allocation per entry.

pub mod addresses;
pub mod attributes;
pub mod constants;
pub mod messages;
mod socket;

pub use messages::Messages;
pub use socket::{Socket, WireError};
