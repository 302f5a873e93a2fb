//! Whether a component is what its WIT says.

use windlass_types::shape::Operation;

/// How a component differs from the WIT beside it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// Described and not there.
    #[error("`{operation}` is in the WIT, and the component does not export it")]
    NotExported { operation: String },
    /// There and not described.
    #[error("`{operation}` is exported by the component, and is not in the WIT")]
    NotDescribed { operation: String },
    /// Of another type.
    #[error("`{operation}` is `{wit}` in the WIT and `{component}` in the component")]
    OtherType { operation: String, wit: String, component: String },
}

/// Check that a component exports exactly the operations its WIT describes, with the same types.
///
/// # Errors
/// With the first difference.
pub fn check_agreement(wit: &[Operation], component: &[Operation]) -> Result<(), Disagreement> {
    for described in wit {
        let operation = described.name.local().to_owned();
        let Some(exported) = component.iter().find(|exported| exported.name == described.name) else {
            return Err(Disagreement::NotExported { operation });
        };
        let same = described.signature.digest() == exported.signature.digest();
        if !same || described.planned != exported.planned {
            let [wit, component] = [described, exported].map(|operation| operation.signature.brief());
            return Err(Disagreement::OtherType { operation, wit, component });
        }
    }
    match component.iter().find(|exported| !wit.iter().any(|described| described.name == exported.name)) {
        Some(extra) => Err(Disagreement::NotDescribed { operation: extra.name.local().to_owned() }),
        None => Ok(()),
    }
}
