//! The control plane: `windlass-master`.

fn main() {}
