//! Address arithmetic: pod CIDRs cut from the cluster range, Service addresses.
