//! One file per stage, in boot order.
