//! Leaf certificates and kubeconfigs, issued on the node from the baked authorities.
