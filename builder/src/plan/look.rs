//! The part of a plan that looks at files: the lock, the cache, and what the lock is compared with.

use super::inputs::{InputsPlan, LockState};
use crate::cluster::Loaded;
use crate::compose;
use crate::progress::Silent;
use crate::sources::{self, Cache, Lock, LockError, SourcesError};

/// Finds the inputs of a build. Reads local files if the cache does not remember their digests; fetches
/// and writes nothing. A lock that cannot be read is an error, as it is for a build.
pub fn look(loaded: &Loaded, cache: &Cache) -> Result<InputsPlan, LockError> {
    let path = loaded.lock_path();
    let lock = Lock::read(&path)?;
    let request = compose::request(loaded);
    let state = match &lock {
        None => LockState::Absent,
        // With a lock and without --update, this is the comparison that a build begins with.
        Some(lock) => match sources::pin(&request, Some(lock), false, cache, &Silent) {
            Ok(_) => LockState::Fits,
            Err(SourcesError::Locked { difference }) => LockState::Differs { difference },
            Err(error) => LockState::Unknown { reason: error.to_string() },
        },
    };
    let path = path.display().to_string();
    Ok(InputsPlan::of(&request, &path, lock.as_ref(), state, &|sha256, size| {
        cache.object(sha256, size).is_some()
    }))
}
