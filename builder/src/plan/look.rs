//! The part of a plan that looks at files: the lock, the cache, and what the lock is compared with.

use std::path::Path;

use super::inputs::{InputsPlan, LayerPlan, LayerState, LockState};
use crate::cluster::Loaded;
use crate::compose::layer::{self, LayerInputs};
use crate::compose::runtime::Runtime;
use crate::compose::{self, ComposeError};
use crate::image;
use crate::progress::Silent;
use crate::rootfs::FirmwareFacts;
use crate::sources::{self, Cache, Lock, LockError, Pinned, SourcesError};

/// What a build is told besides the cluster file that its OS layers depend on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given<'a> {
    /// Folder of the programs `firstboot`, `agent`, `pause` and `probe`, if one was named.
    pub runtime: Option<&'a Path>,
    /// Build time, seconds since the Unix epoch; the archive's if absent.
    pub epoch: Option<u64>,
}

/// Finds the inputs of a build. Reads local files if the cache does not remember their digests; fetches
/// and writes nothing. A lock that cannot be read is an error, as it is for a build.
pub fn look(loaded: &Loaded, given: Given<'_>, cache: &Cache) -> Result<InputsPlan, LockError> {
    let path = loaded.lock_path();
    let lock = Lock::read(&path)?;
    let request = compose::request(loaded);
    let mut layers = Vec::new();
    let state = match &lock {
        None => LockState::Absent,
        // With a lock and without --update, this is the comparison that a build begins with.
        Some(lock) => match sources::pin(&request, Some(lock), false, cache, &Silent) {
            Ok(pinned) => {
                layers = look_for_layers(loaded, given, &pinned, cache);
                LockState::Fits
            }
            Err(SourcesError::Locked { difference }) => LockState::Differs { difference },
            Err(error) => LockState::Unknown { reason: error.to_string() },
        },
    };
    let path = path.display().to_string();
    Ok(InputsPlan::of(&request, &path, lock.as_ref(), state, layers, &|sha256, size| {
        cache.object(sha256, size).is_some()
    }))
}

/// The OS layer of each role, by the digest that a build would look for.
fn look_for_layers(loaded: &Loaded, given: Given<'_>, pinned: &Pinned, cache: &Cache) -> Vec<LayerPlan> {
    let runtime = Runtime::find(given.runtime).map_err(|error| error.to_string());
    let epoch = given.epoch.unwrap_or_else(|| pinned.epoch());
    let state = |profile| -> Result<(LayerState, Option<FirmwareFacts>), String> {
        let runtime = runtime.as_ref().map_err(String::clone)?;
        let inputs = LayerInputs { loaded, runtime, pinned, epoch };
        let digest = layer::digest(&inputs, profile, cache);
        let found =
            digest.and_then(|digest| image::layer::cached(cache.root(), &digest).map_err(ComposeError::from));
        match found.map_err(|error| error.to_string())? {
            Some(layer) => Ok((LayerState::Cached, layer.facts.firmware)),
            None => Ok((LayerState::Absent, None)),
        }
    };
    let layers = loaded.profiles.iter().map(|(role, profile)| {
        let (state, firmware) =
            state(profile).unwrap_or_else(|reason| (LayerState::Unknown { reason }, None));
        LayerPlan { role: role.clone(), state, firmware }
    });
    layers.collect()
}
