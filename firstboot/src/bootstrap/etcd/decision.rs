//! How this machine's etcd starts: a table from what is on the disk and what the other members say. Members are by the
//! cluster file: the control planes, or the machines of the role `etcd` if there are any.
//!
//! A cluster is begun by one member alone, the one that the cluster file names first, and only when every
//! other has said that it has no data either; the rest join it, as learners first. etcd's own way, in which all start
//! at once with the same list, gives a member that lost its disk the identity of the one that it was, and the
//! votes that it no longer remembers (raft's promise to keep what was committed goes with them). So it takes all the
//! machines to begin, and from then on a member without data is always a new one. As images of different cluster files
//! may name different ones first, all have to name this one.

use super::data::{Data, Identity};
use super::peers::{Answer, Member, Peer};

/// What is known when it is decided.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// This machine.
    pub node: &'a str,
    /// Its peer URL.
    pub url: &'a str,
    /// What the data folder holds.
    pub data: &'a Data,
    /// The member that may begin a cluster, the first of the cluster file; none if that says that there is one.
    pub beginner: Option<&'a str>,
    /// The other members.
    pub peers: &'a [Peer],
}

/// What is done, with the reason in plain words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// etcd starts with the data that it has.
    Restart(String),
    /// etcd starts a cluster of one member.
    Begin(String),
    /// Members that this machine was are removed, and it is added as a learner.
    Join {
        /// Why.
        reason: String,
        /// Members of the same name or peer URL: their data is not here.
        stale: Vec<u64>,
    },
    /// Not now. It is asked again.
    Wait(String),
}

/// Decides.
pub fn decide(situation: &Situation<'_>) -> Decision {
    match situation.data {
        Data::Member(identity) => with_data(situation, *identity),
        Data::Unknown => {
            Decision::Restart("starts with the data that it has, which does not say whose it is".to_owned())
        }
        Data::Damaged => Decision::Wait(
            "its data has no log (member/wal) any more, and etcd would begin anew in it; write the image to the \
             disk again to have it join as a new member"
                .to_owned(),
        ),
        Data::None => without_data(situation),
    }
}

/// Whoever has data belongs to a cluster. It is held back only when that cluster says that it does not.
fn with_data(situation: &Situation<'_>, own: Identity) -> Decision {
    let clusters: Vec<View<'_>> = views(situation.peers).collect();
    let same: Vec<&View<'_>> = clusters.iter().filter(|view| view.cluster == own.cluster).collect();
    if same.is_empty() && !clusters.is_empty() {
        return Decision::Wait(format!(
            "its data is of the cluster {:x}, and {}; two clusters cannot be made one: write the image to the disk \
             again to have it join that one",
            own.cluster,
            list(&clusters, |view| format!("{} is in the cluster {:x}", view.peer, view.cluster)),
        ));
    }
    if let Some(view) = same.iter().find(|view| view.members.iter().any(|one| one.id == own.member)) {
        return Decision::Restart(format!("starts with the data that it has; {} knows it", view.peer));
    }
    // A member that was away may not know of this one yet, and may need its vote to learn of it. A majority of those
    // that it names finds a leader without this one, and then knows all.
    if same.iter().any(|view| view.has_majority(&same)) {
        // etcd lists them by identity, which is random.
        let mut names: Vec<&str> = same[0].members.iter().map(|member| member.name.as_str()).collect();
        names.sort_unstable();
        return Decision::Wait(format!(
            "it has been removed from the cluster: {} that its members are {}. Its data stays as it is; write the \
             image to the disk again to have it join as a new member, or take it out of the cluster file",
            said(&same),
            list(&names, |name| (*name).to_owned()),
        ));
    }
    let reason = match same.is_empty() {
        true => "no other member answers".to_owned(),
        false => format!("{} does not know it, but is not the majority", list(&same, |v| v.peer.to_owned())),
    };
    Decision::Restart(format!("starts with the data that it has; {reason}"))
}

fn without_data(situation: &Situation<'_>) -> Decision {
    let clusters: Vec<View<'_>> = views(situation.peers).collect();
    if let Some(first) = clusters.first() {
        if clusters.iter().any(|view| view.cluster != first.cluster) {
            return Decision::Wait(format!(
                "it has no data, and there are two clusters: {}; write the image to the disks of those that are wrong",
                list(&clusters, |view| format!("{} is in {:x}", view.peer, view.cluster)),
            ));
        }
        let is_here = |member: &Member| member.urls.iter().any(|url| url == situation.url);
        // It may be alive, and only one of the two is meant: a mistake in a seed must not take a member away.
        let namesake = |member: &&Member| member.name == situation.node && !is_here(member);
        if let Some(other) = clusters.iter().flat_map(|view| view.members).find(namesake) {
            return Decision::Wait(format!(
                "it has no data, and {} has a member {} at {}, which is not this machine's {}: give one of the two \
                 another name, or remove that member if this machine has a new address",
                first.peer,
                situation.node,
                other.urls.join(", "),
                situation.url,
            ));
        }
        let mut stale: Vec<u64> = clusters
            .iter()
            .flat_map(|view| view.members.iter().filter(|member| is_here(member)).map(|member| member.id))
            .collect();
        stale.sort_unstable();
        stale.dedup();
        let reason = match stale.is_empty() {
            true => format!("it has no data; joins the cluster of {} as a learner", first.peer),
            false => format!(
                "it has no data, and {} knows a member {} that had; takes its place as a learner",
                first.peer, situation.node
            ),
        };
        return Decision::Join { reason, stale };
    }
    if let Some(reason) = other_files(situation) {
        return Decision::Wait(reason);
    }
    match situation.beginner {
        None => Decision::Wait(format!(
            "it has no data, the cluster file says initial-cluster-state = \"existing\", and no member answers \
             with a cluster{}",
            told(situation.peers)
        )),
        Some(beginner) if beginner != situation.node => Decision::Wait(format!(
            "it has no data and no member answers with a cluster, which {beginner} may begin as the first of \
             the cluster file{}",
            told(situation.peers)
        )),
        Some(_) if situation.peers.is_empty() => {
            Decision::Begin("begins a cluster: it has no data and is the only member".to_owned())
        }
        Some(_) if situation.peers.iter().all(|peer| matches!(peer.answer, Answer::NoData { .. })) => {
            Decision::Begin(format!(
                "begins a cluster: it is the first member of the cluster file, and neither it nor {} has data",
                list(situation.peers, |peer| peer.name.clone())
            ))
        }
        Some(_) => Decision::Wait(format!(
            "it has no data and no member answers with a cluster. It begins one when all the others have said \
             that they have none, as one that is silent may have it{}",
            told(situation.peers)
        )),
    }
}

/// Whom each expects to begin a cluster, if some of those without data expect another than this one does.
fn other_files(situation: &Situation<'_>) -> Option<String> {
    let expects = |beginner: Option<&str>| match beginner {
        Some(name) => format!("expects {name} to begin a cluster"),
        None => "expects that there is one (initial-cluster-state = \"existing\")".to_owned(),
    };
    let others: Vec<String> = situation
        .peers
        .iter()
        .filter_map(|peer| match &peer.answer {
            Answer::NoData { beginner } if beginner.as_deref() != situation.beginner => {
                Some(format!("{} {}", peer.name, expects(beginner.as_deref())))
            }
            _ => None,
        })
        .collect();
    (!others.is_empty()).then(|| {
        format!(
            "it has no data, and there are images of different cluster files: this machine {}, {}; write images of one \
             cluster file to all of them",
            expects(situation.beginner),
            list(&others, String::clone),
        )
    })
}

/// Whether what the peers that have answered say decides it, whatever the others would say: most restarts wait for
/// nobody.
pub fn is_certain(situation: &Situation<'_>) -> bool {
    let views: Vec<View<'_>> = views(situation.peers).collect();
    match situation.data {
        Data::Unknown | Data::Damaged => true,
        Data::Member(own) => {
            let knows = |view: &View<'_>| view.members.iter().any(|one| one.id == own.member);
            views.iter().any(|view| view.cluster == own.cluster && knows(view))
        }
        // One that is alone may be in another cluster than the rest, of which it is a majority.
        Data::None => match views.first() {
            Some(first) => {
                let all: Vec<&View<'_>> = views.iter().collect();
                let most_of_the_file = 2 * views.len() > situation.peers.len() + 1;
                let one_cluster = views.iter().all(|view| view.cluster == first.cluster);
                most_of_the_file && one_cluster && first.has_majority(&all)
            }
            None => false,
        },
    }
}

/// Why a machine of etcd must not begin a cluster, by what the control planes say, which run no etcd by its cluster file:
/// they may have been built from one by which they do, and hold what the API server has stored.
pub fn elsewhere(control_planes: &[Peer]) -> Option<String> {
    let views: Vec<View<'_>> = views(control_planes).collect();
    let all: Vec<&View<'_>> = views.iter().collect();
    (!all.is_empty()).then(|| {
        format!(
            "by the cluster file control planes run no etcd, but {} that it is in one: move its data to the machines of \
             etcd first (docs/control-planes.md)",
            said(&all)
        )
    })
}

/// What one peer says of its cluster.
#[derive(Debug, Clone, Copy)]
struct View<'a> {
    peer: &'a str,
    cluster: u64,
    members: &'a [Member],
}

impl View<'_> {
    /// Whether a majority of the members with a vote that it names is among those that answer.
    fn has_majority(&self, answering: &[&View<'_>]) -> bool {
        let voters = self.members.iter().filter(|member| !member.learner);
        let answers = |member: &Member| answering.iter().any(|view| view.peer == member.name);
        2 * voters.clone().filter(|member| answers(member)).count() > voters.count()
    }
}

fn views(peers: &[Peer]) -> impl Iterator<Item = View<'_>> {
    peers.iter().filter_map(|peer| match &peer.answer {
        Answer::Cluster { id, members } => Some(View { peer: &peer.name, cluster: *id, members }),
        Answer::NoData { .. } | Answer::Silent(_) => None,
    })
}

fn said(views: &[&View<'_>]) -> String {
    let peers = list(views, |view| view.peer.to_owned());
    format!("{peers} {}", if views.len() == 1 { "says" } else { "say" })
}

/// What each peer said, in brackets; nothing if there is none.
fn told(peers: &[Peer]) -> String {
    let one = |peer: &Peer| match &peer.answer {
        Answer::Silent(reason) => format!("{} does not answer: {reason}", peer.name),
        Answer::NoData { .. } => format!("{} has no data", peer.name),
        Answer::Cluster { .. } => format!("{} has a cluster", peer.name),
    };
    if peers.is_empty() {
        return String::new();
    }
    let all: Vec<String> = peers.iter().map(one).collect();
    format!(" ({})", all.join("; "))
}

/// `a, b and c`
fn list<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    let mut all: Vec<String> = items.iter().map(text).collect();
    match all.pop() {
        Some(last) if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        last => last.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
