//! Which nodes a target means.
