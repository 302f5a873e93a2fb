//! Rows of nodes.
