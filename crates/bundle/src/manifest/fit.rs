//! Whether a manifest fits the operations that its component has.
//!
//! Asked when a bundle is packed and when a host loads it, of the same code: so what packs also loads.

use super::{Manifest, lock_params};
use windlass_types::{
    json::{self, nearest},
    shape::{Shape, Signature},
};

/// An operation that a component has.
#[derive(Debug, Clone, Copy)]
pub struct Exported<'o> {
    /// `interface.function`.
    pub local: &'o str,
    /// Its type.
    pub signature: &'o Signature,
    /// It returns a plan, and runs on the master.
    pub planned: bool,
}

/// What a manifest says and the component is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin.toml: `{key}`: {message}{}", hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
pub struct Unfit {
    /// Key of the manifest, such as `operations."pool.list".undo`.
    pub key: String,
    /// What is wrong there.
    pub message: String,
    /// What may help, such as the nearest name.
    pub hint: Option<String>,
}

impl Manifest {
    /// Check that all operations it speaks of are there, and that locks and arguments fit their
    /// parameters.
    ///
    /// # Errors
    /// With the first thing that does not fit.
    pub fn fits(&self, exported: &[Exported<'_>]) -> Result<(), Unfit> {
        let find = |key: String, local: &str| {
            exported.iter().find(|operation| operation.local == local).ok_or_else(|| Unfit {
                key,
                message: "the component exports no such function".into(),
                hint: nearest(local, exported.iter().map(|operation| operation.local)),
            })
        };
        for (local, policy) in &self.operations {
            let key = |rest: &str| format!("operations.\"{local}\"{rest}");
            let operation = find(key(""), local)?;
            for lock in &policy.locks {
                check_lock(operation.signature, lock, || key(".locks"))?;
            }
            if let Some(undo) = &policy.undo {
                let of = find(key(".undo"), undo).map_err(|unfit| Unfit {
                    message: format!("the component exports no function `{undo}`"),
                    ..unfit
                })?;
                not_planned(of, || key(".undo"))?;
            }
        }
        for (name, watch) in &self.watches {
            let key = |rest: &str| format!("watches.{name}.{rest}");
            let operation = find(key("operation"), &watch.operation)?;
            not_planned(operation, || key("operation"))?;
            let params = operation.signature.params_shape();
            json::check(&params, &serde_json::Value::Object(watch.args.clone())).map_err(|error| Unfit {
                key: key("args"),
                message: format!("does not fit the parameters of `{}`: {error}", watch.operation),
                hint: None,
            })?;
        }
        Ok(())
    }
}

/// What runs on the master can't be repeated by a node, nor take back what a node did.
fn not_planned(operation: &Exported<'_>, key: impl Fn() -> String) -> Result<(), Unfit> {
    if operation.planned {
        let message = format!("`{}` returns a plan, and runs on the master only", operation.local);
        return Err(Unfit { key: key(), message, hint: None });
    }
    Ok(())
}

fn check_lock(signature: &Signature, lock: &str, key: impl Fn() -> String) -> Result<(), Unfit> {
    let fail = |name: &str, why: String, hint| {
        Err(Unfit { key: key(), message: format!("`{{{name}}}` in `{lock}` {why}"), hint })
    };
    let params = &signature.params;
    // The manifest has been parsed, so the lock is well formed.
    for name in lock_params(lock).unwrap_or_default() {
        let Some(param) = params.iter().find(|param| param.name == name) else {
            let hint = nearest(name, params.iter().map(|param| param.name.as_str()));
            return fail(name, "is not a parameter".into(), hint);
        };
        let plain = matches!(
            param.shape,
            Shape::Bool
                | Shape::S8
                | Shape::S16
                | Shape::S32
                | Shape::S64
                | Shape::U8
                | Shape::U16
                | Shape::U32
                | Shape::U64
                | Shape::Char
                | Shape::String
                | Shape::Enum { .. }
        );
        if !plain {
            return fail(name, format!("is {}, which is no name for a lock", param.shape.brief()), None);
        }
    }
    Ok(())
}
