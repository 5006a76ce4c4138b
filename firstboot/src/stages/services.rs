//! **services**: hands over to the supervisor.

use std::path::Path;
use std::sync::Arc;

use bootwright_model::node::NodeFacts;
use bootwright_model::profile::Profile;
use bootwright_model::report::ServiceState;

use super::{Advice, Done};
use crate::report::{Reporter, uptime_ms};
use crate::services::{self, Definition, Host, Observer, ServicesError};

impl Advice for ServicesError {
    fn advice(&self) -> String {
        match self {
            ServicesError::Definitions { .. } => "correct the services in the profile and build again",
            ServicesError::Cgroups(_) => {
                "use one of Debian's kernels: cgroup v2 with its controllers is needed"
            }
            ServicesError::Leftovers(_) => {
                "check the state partition; writing the image to the disk again loses the state"
            }
        }
        .to_owned()
    }
}

/// Resolves the services and clears what an earlier boot left.
pub fn prepare(
    host: &Host,
    profile: &Profile,
    facts: &NodeFacts,
) -> Result<Done<Vec<Definition>>, ServicesError> {
    let definitions = services::prepare(host, profile, facts)?;
    let summary = format!("{} services to start", definitions.len());
    Ok(Done::new(definitions, summary))
}

/// Tells the report what the supervisor sees.
pub struct ReportObserver(pub Arc<Reporter>);

impl Observer for ReportObserver {
    fn line(&mut self, line: &str) {
        self.0.line(line);
    }

    fn services(&mut self, services: Vec<ServiceState>) {
        self.0.services(services);
    }

    fn services_started(&mut self) {
        super::grace::take_time(Path::new("/"));
        self.0.services_started();
    }

    fn ready(&mut self) {
        // Also when a convenience could never be started.
        super::grace::take_time(Path::new("/"));
        self.0.ready();
    }

    fn uptime_ms(&self) -> u64 {
        uptime_ms()
    }
}
