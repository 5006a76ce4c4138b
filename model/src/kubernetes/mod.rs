//! What depends on the Kubernetes version: flags and configuration files of every component.
