//! A loaded plugin: its operations, found by type, and what it was granted.

use crate::{
    aot::{self, CachedError},
    convert::{Shapes, Unsupported},
    host::State,
};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path, sync::Arc};
use wasmtime::{
    Engine,
    component::{
        Component, ComponentExportIndex, InstancePre, Linker, Type,
        types::{ComponentFunc, ComponentItem},
    },
};
use windlass_bundle::{
    Bundle, Grants, Manifest, OperationPolicy,
    manifest::{Exported, Unfit},
};
use windlass_types::{
    Digest, OperationName, PluginName,
    shape::{FLEET, Shape, Signature},
};

/// Why a plugin can not be used on this node.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The compiled file is not what was compiled.
    #[error(transparent)]
    Cached(#[from] CachedError),
    /// The compiled file was made for another engine, or is no compiled component.
    #[error("the compiled plugin does not fit this host: {0}")]
    Incompatible(String),
    /// It needs something the host does not have.
    #[error("the plugin needs something this host does not offer: {0}")]
    Imports(String),
    /// A function whose type or name has no form in JSON.
    #[error("function {function}: {why}")]
    Unsupported {
        /// `interface.function`.
        function: String,
        /// What there is no form for.
        why: String,
    },
    /// Two exports would be the same operation.
    #[error("two exports are the operation `{0}`")]
    Twice(String),
    /// Nothing to call.
    #[error("the plugin exports no interface of the package `…:{0}`, so there is no operation")]
    NoOperations(PluginName),
    /// The manifest speaks of an operation that is not there, or is another than it thinks.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// A plugin, ready to be called.
pub struct Plugin {
    manifest: Arc<Manifest>,
    digest: Digest,
    operations: BTreeMap<String, PluginOperation>,
    pub(crate) pre: InstancePre<State>,
    pub(crate) grants: Arc<Grants>,
    /// Configuration of the plugin on this node, as text.
    pub(crate) configuration: String,
}

/// An operation of a plugin.
#[derive(Clone)]
pub struct PluginOperation {
    /// Its full name.
    pub name: OperationName,
    /// Its type.
    pub signature: Signature,
    /// Digest of its type.
    pub type_digest: Digest,
    /// How the manifest wants it treated.
    pub policy: OperationPolicy,
    /// True when it returns a plan: it runs on the master, and hosts refuse it.
    pub planned: bool,
    /// True when it is planned, and given the fleet, which its signature does not have.
    pub takes_fleet: bool,
    /// All it is called with.
    pub(crate) params: Shape,
    pub(crate) export: ComponentExportIndex,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.manifest.name)
            .field("digest", &self.digest)
            .field("operations", &self.operations.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PluginOperation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginOperation")
            .field("name", &self.name)
            .field("type_digest", &self.type_digest)
            .field("policy", &self.policy)
            .field("planned", &self.planned)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    /// Its name.
    pub fn name(&self) -> &PluginName {
        &self.manifest.name
    }
    /// Its version.
    pub fn version(&self) -> String {
        self.manifest.version.to_string()
    }
    /// Digest of its bundle.
    pub fn digest(&self) -> Digest {
        self.digest
    }
    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
    /// Its operations by `interface.function`.
    pub fn operations(&self) -> &BTreeMap<String, PluginOperation> {
        &self.operations
    }
    /// One operation by `interface.function`.
    pub fn operation(&self, local: &str) -> Option<&PluginOperation> {
        self.operations.get(local)
    }
    /// What it may do on this node.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    pub(crate) fn load(
        engine: &Engine,
        linker: &Linker<State>,
        bundle: &Bundle,
        compiled: &Path,
        grants: Grants,
        configuration: &Value,
    ) -> Result<Plugin, LoadError> {
        aot::verify(compiled)?;
        #[expect(unsafe_code, reason = "there is no safe way to run code that was compiled ahead of time")]
        // SAFETY: the file was made by our own compiler helper, lies where only the owner of this
        // process can write, still has the digest it was made with, and is never changed in place
        // (new ones are renamed into the directory). So it holds what `precompile_component`
        // returned, and the mapping does not change while it is in use.
        let component = unsafe { Component::deserialize_file(engine, compiled) }
            .map_err(|error| LoadError::Incompatible(one_line(&error)))?;
        let operations = operations(engine, &component, &bundle.manifest)?;
        let pre = linker.instantiate_pre(&component).map_err(|error| LoadError::Imports(one_line(&error)))?;
        let configuration = match configuration {
            Value::Null => "{}".to_owned(),
            configuration => configuration.to_string(),
        };
        Ok(Plugin {
            manifest: bundle.manifest.clone(),
            digest: bundle.digest,
            operations,
            pre,
            grants: Arc::new(grants),
            configuration,
        })
    }
}

/// The operations of a component: the functions of the interfaces it exports that belong to the
/// plugin's own package. Other exports, such as the `exports` of componentize-py, are none.
fn operations(
    engine: &Engine,
    component: &Component,
    manifest: &Manifest,
) -> Result<BTreeMap<String, PluginOperation>, LoadError> {
    let plan = type_of_plans(engine, component, "plan");
    let fleet = type_of_plans(engine, component, FLEET);
    let mut shapes = Shapes::new();
    let mut operations = BTreeMap::new();
    for (export, item) in component.component_type().exports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        let Some((package, interface)) = interface_name(export) else { continue };
        let Some(index) = component.get_export_index(None, export) else { continue };
        if package != manifest.name.as_str() {
            continue;
        }
        for (function, item) in instance.exports(engine) {
            let unsupported =
                |why: String| LoadError::Unsupported { function: format!("{interface}.{function}"), why };
            let ty = match item.ty {
                ComponentItem::ComponentFunc(ty) => ty,
                ComponentItem::Resource(_) => {
                    return Err(unsupported("a resource has no form in JSON".into()));
                }
                _ => continue,
            };
            let name = OperationName::new(&manifest.name, interface, function).map_err(|_| {
                unsupported("the names of operations are of lower-case letters, digits and `-`".into())
            })?;
            let mut signature = shapes.signature(&ty).map_err(|Unsupported(why)| unsupported(why))?;
            let params = signature.params_shape();
            let planned = plan.as_ref().is_some_and(|plan| returns(&ty, plan));
            let takes_fleet =
                planned && ty.params().any(|(name, ty)| name == FLEET && fleet.as_ref() == Some(&ty));
            if takes_fleet {
                signature.params.retain(|param| param.name != FLEET);
            }
            let Some(export) = component.get_export_index(Some(&index), function) else { continue };
            let operation = PluginOperation {
                type_digest: signature.digest(),
                params,
                policy: manifest.operation(name.local()),
                planned,
                takes_fleet,
                signature,
                export,
                name,
            };
            let local = operation.name.local().to_owned();
            if operations.insert(local.clone(), operation).is_some() {
                return Err(LoadError::Twice(local));
            }
        }
    }
    if operations.is_empty() {
        return Err(LoadError::NoOperations(manifest.name.clone()));
    }
    let exported: Vec<Exported<'_>> = operations
        .iter()
        .map(|(local, operation)| Exported {
            local,
            signature: &operation.signature,
            planned: operation.planned,
        })
        .collect();
    manifest.fits(&exported)?;
    Ok(operations)
}

/// Package and interface of `ns:package/interface@version`.
fn interface_name(export: &str) -> Option<(&str, &str)> {
    let (_, rest) = export.split_once(':')?;
    let (package, interface) = rest.split_once('/')?;
    Some((package, interface.split_once('@').map_or(interface, |(interface, _)| interface)))
}

/// A type of `windlass:plan/types`, where the component knows it. A component tells types apart by
/// structure, not by name, so a record with the very same fields counts too.
fn type_of_plans(engine: &Engine, component: &Component, name: &str) -> Option<Type> {
    let ty = component.component_type();
    let is_types = |name: &str| name.starts_with("windlass:plan/types@") || name == "windlass:plan/types";
    let instance = ty.imports(engine).chain(ty.exports(engine)).find_map(|(name, item)| match item.ty {
        ComponentItem::ComponentInstance(instance) if is_types(name) => Some(instance),
        _ => None,
    })?;
    match instance.get_export(engine, name)?.ty {
        ComponentItem::Type(ty) => Some(ty),
        _ => None,
    }
}

fn returns(function: &ComponentFunc, plan: &Type) -> bool {
    match function.results().next() {
        Some(Type::Result(result)) => result.ok().as_ref() == Some(plan),
        _ => false,
    }
}

pub(crate) fn one_line(error: &wasmtime::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::interface_name;

    #[test]
    fn names_of_exports() {
        assert_eq!(interface_name("windlass:zfs/pool@0.1.0"), Some(("zfs", "pool")));
        assert_eq!(interface_name("windlass:zfs/pool"), Some(("zfs", "pool")));
        assert_eq!(interface_name("exports"), None);
        assert_eq!(interface_name("run"), None);
    }
}
