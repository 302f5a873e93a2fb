//! Jobs and their outcomes.
