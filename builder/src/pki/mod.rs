//! Certificate authorities, tokens and kubeconfigs, made once per cluster.
