//! Service definitions, the supervisor, readiness, logs.
