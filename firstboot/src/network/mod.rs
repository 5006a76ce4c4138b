//! Links, addresses, the pod bridge and masquerading, over netlink.
