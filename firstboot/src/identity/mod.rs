//! Who this machine is: one folder or file per source.
