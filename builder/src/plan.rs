//! What would be built: every input, digest, size and address, before anything is fetched.
