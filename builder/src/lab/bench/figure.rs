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
    /// Routes to the pods of many nodes, programmed and looked at.
    Routes,
}

impl Part {
    /// All of them, in the order that they are measured in.
    pub const ALL: [Part; 6] =
        [Part::Compose, Part::Mkosi, Part::Size, Part::Boot, Part::Small, Part::Routes];

    /// Whether it works on a built image.
    pub fn needs_image(self) -> bool {
        !matches!(self, Part::Mkosi | Part::Routes)
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
            Part::Routes => "routes",
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
    /// Memory in use when the node was left alone.
    Memory,
    /// [`Figure::Ready`] on the smallest machine.
    SmallReady,
    /// Entries of many peers, from nothing.
    PeersProgrammed,
    /// The same when nothing changed.
    PeersUnchanged,
    /// The same entries by iproute2, as a person writes them.
    IpBatch,
    /// The very same entries by iproute2, with our metrics.
    IpBatchMetrics,
}

impl Figure {
    /// All of them, in the order of the table.
    pub const ALL: [Figure; 16] = [
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
        Figure::Memory,
        Figure::SmallReady,
        Figure::PeersProgrammed,
        Figure::PeersUnchanged,
        Figure::IpBatch,
        Figure::IpBatchMetrics,
    ];

    /// Which part measures it.
    pub fn part(self) -> Part {
        match self {
            Figure::ColdCompose | Figure::WarmCompose => Part::Compose,
            Figure::MkosiCold | Figure::MkosiIncremental => Part::Mkosi,
            Figure::RawImage | Figure::CompressedImage | Figure::CompressedWorker => Part::Size,
            Figure::Ready | Figure::ServicesStarted | Figure::OwnPart | Figure::Memory => Part::Boot,
            Figure::SmallReady => Part::Small,
            Figure::PeersProgrammed | Figure::PeersUnchanged | Figure::IpBatch | Figure::IpBatchMetrics => {
                Part::Routes
            }
        }
    }

    /// Its name in the table; of one of mkosi's what follows mkosi's own.
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
            Figure::Memory => "memory in use, idle, all-in-one",
            Figure::SmallReady => "power-on to node Ready, 1 core and 1 GiB",
            Figure::PeersProgrammed => "5,000 VXLAN peers programmed",
            Figure::PeersUnchanged => "5,000 VXLAN peers, no change",
            Figure::IpBatch => "ip -batch, bridge -batch: the same",
            Figure::IpBatchMetrics => "ip -batch, bridge -batch: the same with our metrics",
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
            Figure::Memory => ["500 MB", "400 MB"],
            Figure::SmallReady => ["", "Ready"],
            Figure::PeersProgrammed => ["1000 ms, 5 x", ""],
            Figure::PeersUnchanged => ["150 ms", ""],
            Figure::IpBatch | Figure::IpBatchMetrics => ["", ""],
        }
    }

    /// Seconds, milliseconds, or 1,000,000 bytes.
    pub fn unit(self) -> &'static str {
        match self {
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
            _ => None,
        }
    }

    /// How often it is measured when everything is measured `runs` times: a size is the same each time, and
    /// the smallest machine takes many minutes.
    pub fn times(self, runs: u16) -> usize {
        match self.part() {
            Part::Size | Part::Small => 1,
            Part::Compose | Part::Mkosi | Part::Boot | Part::Routes => usize::from(runs),
        }
    }
}
