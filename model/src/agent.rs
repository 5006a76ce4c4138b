//! What the agent and those who start, ask or avoid it agree on.

/// Port of the balancer on 127.0.0.1 and ::1, behind which the API servers of all control planes
/// stand. Not the API server's own: a control plane has both. Registered for nothing that a node runs, and below
/// the kernel's range of ephemeral ports (32768 to 60999), so that no outgoing connection sits on it.
pub const BALANCER_PORT: u16 = 7443;

/// Port on 127.0.0.1 where the agent says how it is: `/healthz`, plain HTTP.
pub const HEALTH_PORT: u16 = 7444;

/// User that the agent is to the API server.
pub const USER: &str = "bootwright:agent";

/// Namespace of the agents' Leases.
pub const LEASE_NAMESPACE: &str = "kube-system";

/// Name of the Lease (coordination.k8s.io/v1) whose holder has the cluster's virtual address.
pub const VIRTUAL_IP_LEASE: &str = "bootwright-virtual-ip";

/// Name of the Lease whose holder gives pod CIDRs to Nodes that ask for one.
pub const POD_CIDR_LEASE: &str = "bootwright-pod-cidrs";

/// Annotation of a Node that asks for a pod CIDR. Its value is `true`, or the ranges that the machine had before and
/// keeps if nobody else has them, `10.10.255.0/24`; with a comma between them in a cluster of both families.
pub const WANTS_POD_CIDR: &str = "bootwright/wants-pod-cidr";

/// Annotation of such a Node: the role of its image, of which a control plane gives it the label.
pub const ROLE: &str = "bootwright/role";

/// Annotation of the Lease [`POD_CIDR_LEASE`]: what its holder was giving when it wrote it, `worker-5254002000a1
/// 10.10.255.0/24`.
pub const GIVING_POD_CIDR: &str = "bootwright/giving";
