//! The operations of a plugin, from its WIT.
//!
//! Components built by `wasm32-wasip2` keep types and lose documentation, so a bundle carries its
//! WIT beside the component, as a binary package. This crate reads both: [`operations`] from the
//! documented package, [`component_operations`] from the component itself, and
//! [`check_agreement`] proves that they mean the same, [`difference`] tells two versions apart. [`pack`](pack::pack) does all of it for
//! whoever makes a bundle.
//!
//! The bytes come from plugin authors and, on a master, from hosts: see [`decode`] for what
//! protects the reader.

mod agreement;
mod decode;
mod diff;
mod docs;
pub mod expression;
#[cfg(test)]
mod fixture;
mod operations;
pub mod pack;
mod shapes;
#[cfg(test)]
mod tests;

pub use agreement::{Disagreement, check_agreement};
pub use diff::difference;
pub use operations::{component_operations, operations};
pub use pack::{PackError, Packed, encode_wit, pack, stage_wit};

/// Why the operations of a plugin can not be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// The bytes are not a binary WIT package, or not a component.
    #[error("not {expected}: {why}")]
    Malformed {
        /// What was wanted.
        expected: &'static str,
        /// What the decoder said, in one line.
        why: String,
    },
    /// The package is that of another plugin.
    #[error("the WIT package is `{package}`, and that of plugin `{plugin}` must be named `…:{plugin}`")]
    OtherPackage {
        /// The package.
        package: String,
        /// The plugin.
        plugin: String,
    },
    /// Several worlds, and none that stands out.
    #[error("the WIT package has the worlds {worlds}: name the one that is the plugin `{plugin}`")]
    Worlds {
        /// Their names.
        worlds: String,
        /// The plugin.
        plugin: String,
    },
    /// A function whose type or name has no form in JSON.
    #[error("function {function}: {why}")]
    Unsupported {
        /// `interface.function`.
        function: String,
        /// What there is no form for.
        why: String,
    },
    /// Two exports would be the same operation.
    #[error("two exports are the operation `{operation}`")]
    Twice {
        /// `interface.function`.
        operation: String,
    },
    /// The types and their documentation are larger than any plugin needs.
    #[error("{what}, where {limit} are allowed")]
    TooLarge {
        /// What there is too much of.
        what: String,
        /// How much there may be.
        limit: usize,
    },
}
