//! The figures: what they are called, in which unit, what is asked of them, and which part measures them.

use std::fmt;

/// A part of the measurement, that can be asked for alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Part {
    /// Cold and warm builds.
    Compose,
    /// The same packages with mkosi, cold and incremental.
    Mkosi,
    /// Sizes of the image.
    Size,
    /// Power-on to Ready, stages, idle memory.
    Boot,
    /// Power-on to Ready with 1 processor and 1 GiB.
    Small,
    /// Identity and network of a worker whose address a DHCP server lends.
    Dhcp,
    /// Routes to the pods of many nodes, programmed and looked at.
    Routes,
    /// TCP through the pod network.
    Tcp,
    /// Memory of the agent in a large cluster.
    Agent,
    /// Power-on to Ready of a cluster of several machines.
    Lab,
    /// A control plane with 1 processor and 1 GiB and many nodes.
    Nodes,
}

/// What a part works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing that was built.
    Nothing,
    /// The image of the cluster file, or what its build fetches.
    Image,
    /// The images of the cluster file of several nodes.
    Several,
}

impl Part {
    /// All of them, in the order that they are measured in.
    pub const ALL: [Part; 11] = [
        Part::Compose,
        Part::Mkosi,
        Part::Size,
        Part::Boot,
        Part::Small,
        Part::Dhcp,
        Part::Routes,
        Part::Tcp,
        Part::Agent,
        Part::Lab,
        Part::Nodes,
    ];

    /// What it works on; the agent's takes etcd from what a build fetches.
    pub fn needs(self) -> Needs {
        match self {
            Part::Mkosi | Part::Routes | Part::Tcp => Needs::Nothing,
            Part::Compose | Part::Size | Part::Boot | Part::Small | Part::Agent => Needs::Image,
            Part::Dhcp | Part::Lab | Part::Nodes => Needs::Several,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Compose => "compose",
            Part::Mkosi => "mkosi",
            Part::Size => "size",
            Part::Boot => "boot",
            Part::Small => "small",
            Part::Dhcp => "dhcp",
            Part::Routes => "routes",
            Part::Tcp => "tcp",
            Part::Agent => "agent",
            Part::Lab => "lab",
            Part::Nodes => "nodes",
        })
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// A build whose inputs are fetched and of which nothing is composed.
    ColdCompose,
    /// A build after a change of the cluster file.
    WarmCompose,
    /// mkosi without its incremental cache.
    MkosiCold,
    /// mkosi with its incremental cache, after a change of its configuration.
    MkosiIncremental,
    /// Length of the image file.
    RawImage,
    /// Length of the image file, compressed.
    CompressedImage,
    /// The same of the image of a worker.
    CompressedWorker,
    /// Power-on to the node's condition.
    Ready,
    /// What the boot report says.
    ServicesStarted,
    /// The part of it that first boot takes.
    OwnPart,
    /// The stages identity and network of it, with an address of the cluster file.
    Given,
    /// Memory in use when the node was left alone.
    Memory,
    /// [`Figure::Ready`] on the smallest machine.
    SmallReady,
    /// [`Figure::Given`] with an address that a DHCP server lends.
    Lent,
    /// Entries of many peers, from nothing.
    PeersProgrammed,
    /// The same when nothing changed.
    PeersUnchanged,
    /// The same entries by iproute2, as a person writes them.
    IpBatch,
    /// The very same entries by iproute2, with our metrics.
    IpBatchMetrics,
    /// A connection over a link between two namespaces.
    TcpLink,
    /// The same through our VXLAN on it.
    TcpOurs,
    /// How much that is of [`Figure::TcpLink`] in the same run.
    TcpOursShare,
    /// The same through VXLAN as flannel sets it.
    TcpFlannel,
    /// How much that is of [`Figure::TcpLink`] in the same run.
    TcpFlannelShare,
    /// The most memory that the agent ever had.
    AgentMost,
    /// What it has when all is read and programmed.
    AgentResident,
    /// The first power-on of a cluster to the Ready of its last node.
    LabReady,
    /// How many of the simulated nodes are Ready in the end.
    NodesReady,
    /// Half of their requests took no longer.
    NodesP50,
    /// 99 of 100 of their requests took no longer.
    NodesP99,
    /// How many requests these were.
    NodesRequests,
    /// How many of them failed.
    NodesFailed,
    /// The most memory that the control plane's machine had in use.
    NodesMemory,
    /// Services that it started again, and processes that its kernel killed.
    NodesRestarts,
}

impl Figure {
    /// All of them, in the order of the table.
    pub const ALL: [Figure; 33] = [
        Figure::ColdCompose,
        Figure::WarmCompose,
        Figure::MkosiCold,
        Figure::MkosiIncremental,
        Figure::RawImage,
        Figure::CompressedImage,
        Figure::CompressedWorker,
        Figure::Ready,
        Figure::ServicesStarted,
        Figure::OwnPart,
        Figure::Given,
        Figure::Memory,
        Figure::SmallReady,
        Figure::Lent,
        Figure::PeersProgrammed,
        Figure::PeersUnchanged,
        Figure::IpBatch,
        Figure::IpBatchMetrics,
        Figure::TcpLink,
        Figure::TcpOurs,
        Figure::TcpOursShare,
        Figure::TcpFlannel,
        Figure::TcpFlannelShare,
        Figure::AgentMost,
        Figure::AgentResident,
        Figure::LabReady,
        Figure::NodesReady,
        Figure::NodesP50,
        Figure::NodesP99,
        Figure::NodesRequests,
        Figure::NodesFailed,
        Figure::NodesMemory,
        Figure::NodesRestarts,
    ];

    /// Which part measures it.
    pub fn part(self) -> Part {
        match self {
            Figure::ColdCompose | Figure::WarmCompose => Part::Compose,
            Figure::MkosiCold | Figure::MkosiIncremental => Part::Mkosi,
            Figure::RawImage | Figure::CompressedImage | Figure::CompressedWorker => Part::Size,
            Figure::Ready | Figure::ServicesStarted | Figure::OwnPart | Figure::Given | Figure::Memory => {
                Part::Boot
            }
            Figure::SmallReady => Part::Small,
            Figure::Lent => Part::Dhcp,
            Figure::PeersProgrammed | Figure::PeersUnchanged | Figure::IpBatch | Figure::IpBatchMetrics => {
                Part::Routes
            }
            Figure::TcpLink
            | Figure::TcpOurs
            | Figure::TcpOursShare
            | Figure::TcpFlannel
            | Figure::TcpFlannelShare => Part::Tcp,
            Figure::AgentMost | Figure::AgentResident => Part::Agent,
            Figure::LabReady => Part::Lab,
            Figure::NodesReady
            | Figure::NodesP50
            | Figure::NodesP99
            | Figure::NodesRequests
            | Figure::NodesFailed
            | Figure::NodesMemory
            | Figure::NodesRestarts => Part::Nodes,
        }
    }

    /// Its name in the table; of one of mkosi's, of several machines or of simulated nodes what follows these.
    pub fn name(self) -> &'static str {
        match self {
            Figure::ColdCompose => "cold compose, packages cached",
            Figure::WarmCompose => "warm compose, cluster file changed",
            Figure::MkosiCold => "tar without Kubernetes: cold, packages cached",
            Figure::MkosiIncremental => "tar without Kubernetes: incremental, a file changed",
            Figure::RawImage => "raw image, logical size",
            Figure::CompressedImage => "image, zstd -3",
            Figure::CompressedWorker => "worker image, zstd -3",
            Figure::Ready => "power-on to node Ready",
            Figure::ServicesStarted => "kernel start to all services started",
            Figure::OwnPart => "firstboot's own part of that",
            Figure::Given => "identity and network, address of the cluster file",
            Figure::Memory => "memory in use, idle, all-in-one",
            Figure::SmallReady => "power-on to node Ready, 1 core and 1 GiB",
            Figure::Lent => "identity and network, address by DHCP",
            Figure::PeersProgrammed => "5,000 VXLAN peers programmed",
            Figure::PeersUnchanged => "5,000 VXLAN peers, no change",
            Figure::IpBatch => "ip -batch, bridge -batch: the same",
            Figure::IpBatchMetrics => "ip -batch, bridge -batch: the same with our metrics",
            Figure::TcpLink => "TCP over a link between namespaces",
            Figure::TcpOurs => "TCP over VXLAN on that link",
            Figure::TcpOursShare => "TCP over VXLAN, of the link",
            Figure::TcpFlannel => "TCP over VXLAN with flannel's settings",
            Figure::TcpFlannelShare => "TCP over VXLAN with flannel's settings, of the link",
            Figure::AgentMost => "agent at 5,000 peers, memory at most",
            Figure::AgentResident => "agent at 5,000 peers, memory afterwards",
            Figure::LabReady => "machines, power-on to all nodes Ready",
            Figure::NodesReady => "Ready at the end",
            Figure::NodesP50 => "API requests, p50",
            Figure::NodesP99 => "API requests, p99",
            Figure::NodesRequests => "API requests",
            Figure::NodesFailed => "API requests that failed",
            Figure::NodesMemory => "memory in use, at most",
            Figure::NodesRestarts => "services restarted, processes killed for memory",
        }
    }

    /// What it has to reach, and what would be good; empty if nothing is asked of it.
    pub fn goals(self) -> [&'static str; 2] {
        match self {
            Figure::ColdCompose => ["40 s", "25 s"],
            Figure::WarmCompose => ["2 s", "1 s"],
            Figure::MkosiCold | Figure::MkosiIncremental => ["", ""],
            Figure::RawImage => ["512 MB", "300 MB"],
            Figure::CompressedImage => ["200 MB", "160 MB"],
            Figure::CompressedWorker => ["120 MB", "100 MB"],
            Figure::Ready => ["90 s", "60 s"],
            Figure::ServicesStarted => ["6 s", "3.5 s"],
            Figure::OwnPart => ["1.5 s", "1.0 s"],
            Figure::Given => ["1.0 s", ""],
            Figure::Lent => ["1.5 s", ""],
            Figure::Memory => ["500 MB", "400 MB"],
            Figure::SmallReady => ["", "Ready"],
            Figure::PeersProgrammed => ["1000 ms, 5 x", ""],
            Figure::PeersUnchanged => ["150 ms", ""],
            Figure::IpBatch | Figure::IpBatchMetrics => ["", ""],
            Figure::TcpOurs => ["flannel's", ""],
            Figure::TcpOursShare => ["stated", ""],
            Figure::TcpLink | Figure::TcpFlannel | Figure::TcpFlannelShare => ["", ""],
            Figure::AgentMost => ["40 MB", ""],
            Figure::AgentResident => ["", ""],
            Figure::LabReady => ["300 s", ""],
            Figure::NodesReady => ["all", ""],
            Figure::NodesP99 => ["stated", ""],
            Figure::NodesRestarts => ["0", ""],
            Figure::NodesP50 | Figure::NodesRequests | Figure::NodesFailed | Figure::NodesMemory => ["", ""],
        }
    }

    /// Seconds, milliseconds, 1,000,000 bytes, 1,000,000,000 bits in a second, hundredths, or nothing for
    /// what is counted.
    pub fn unit(self) -> &'static str {
        match self {
            Figure::TcpLink | Figure::TcpOurs | Figure::TcpFlannel => "Gbit/s",
            Figure::TcpOursShare | Figure::TcpFlannelShare => "%",
            Figure::AgentMost | Figure::AgentResident | Figure::NodesMemory => "MB",
            Figure::NodesP50 | Figure::NodesP99 => "ms",
            Figure::NodesReady | Figure::NodesRequests | Figure::NodesFailed | Figure::NodesRestarts => "",
            Figure::RawImage | Figure::CompressedImage | Figure::CompressedWorker | Figure::Memory => "MB",
            _ if self.part() == Part::Routes => "ms",
            _ => "s",
        }
    }

    /// What a person would use instead, and how that was run.
    pub fn instead(self) -> Option<(Figure, &'static str)> {
        match self {
            Figure::ColdCompose => Some((Figure::MkosiCold, "cold")),
            Figure::WarmCompose => Some((Figure::MkosiIncremental, "incremental")),
            Figure::PeersProgrammed => Some((Figure::IpBatch, "ip -batch")),
            Figure::TcpOurs => Some((Figure::TcpFlannel, "flannel's settings")),
            _ => None,
        }
    }

    /// A value with its unit.
    pub fn show(self, value: f64) -> String {
        format!("{} {}", self.number(value), self.unit()).trim_end().to_owned()
    }

    /// A value without its unit.
    pub fn number(self, value: f64) -> String {
        if self.unit().is_empty() { format!("{value:.0}") } else { format!("{value:.2}") }
    }

    /// How many times better than what a person would use instead it is.
    pub fn times_better(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Figure::TcpOurs => ours / theirs,
            _ => theirs / ours,
        }
    }

    /// How often it is measured when everything is measured `runs` times: a size is the same each time, and
    /// what takes many minutes is measured once.
    pub fn times(self, runs: u16) -> usize {
        match self.part() {
            Part::Size | Part::Small | Part::Agent | Part::Lab | Part::Nodes => 1,
            Part::Compose | Part::Mkosi | Part::Boot | Part::Dhcp | Part::Routes | Part::Tcp => {
                usize::from(runs)
            }
        }
    }
}
