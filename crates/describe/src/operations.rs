//! Which exported functions are operations, and what they look like.

use crate::{
    DescribeError,
    decode::{self, Decoded, Root},
    docs,
    shapes::{ShapeError, Shapes, is_of_plans, is_planned},
};
use windlass_types::{
    OperationName, PluginName,
    shape::{FLEET, Field, Operation, Shape, Signature, json_name},
};
use wit_parser::{
    Function, FunctionKind, Interface, PackageId, Param, Resolve, WorldId, WorldItem, WorldKey,
};

/// The operations of a plugin from its binary WIT package, documented, sorted by name.
///
/// An operation is a function of an interface that the plugin's world exports and that belongs to
/// the plugin's own package. Other exports, such as the `exports` of componentize-py, are not
/// operations.
///
/// # Errors
/// If the bytes are not a binary WIT package of this plugin, or a function has no form in JSON.
pub fn operations(plugin: &PluginName, wit: &[u8]) -> Result<Vec<Operation>, DescribeError> {
    read(plugin, &decode::package(wit)?)
}

/// The same from a component: types without documentation.
///
/// # Errors
/// If the bytes are not a component, or a function has no form in JSON.
pub fn component_operations(plugin: &PluginName, component: &[u8]) -> Result<Vec<Operation>, DescribeError> {
    read(plugin, &decode::component(component)?)
}

fn read(plugin: &PluginName, decoded: &Decoded) -> Result<Vec<Operation>, DescribeError> {
    let resolve = &decoded.resolve;
    let world = match decoded.root {
        Root::World(world) => world,
        Root::Package(package) => world_of(plugin, resolve, package)?,
    };
    let mut shapes = Shapes::new(resolve);
    let mut operations: Vec<Operation> = Vec::new();
    for (key, item) in &resolve.worlds[world].exports {
        let (WorldKey::Interface(_), WorldItem::Interface { id, .. }) = (key, item) else { continue };
        let interface = &resolve.interfaces[*id];
        let own =
            interface.package.is_some_and(|package| resolve.packages[package].name.name == plugin.as_str());
        let (true, Some(name)) = (own, interface.name.as_deref()) else { continue };
        no_resources(resolve, name, interface)?;
        for function in interface.functions.values() {
            operations.push(operation(plugin, name, function, resolve, &mut shapes)?);
        }
    }
    operations.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = operations.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(DescribeError::Twice { operation: pair[0].name.local().to_owned() });
    }
    Ok(operations)
}

/// Name of the world of a binary WIT package that is the plugin.
pub(crate) fn world_name(plugin: &PluginName, wit: &[u8]) -> Result<String, DescribeError> {
    let Decoded { resolve, root } = decode::package(wit)?;
    let world = match root {
        Root::World(world) => world,
        Root::Package(package) => world_of(plugin, &resolve, package)?,
    };
    Ok(resolve.worlds[world].name.clone())
}

/// The world of a package that is the plugin: the only one, or the one of its name.
fn world_of(plugin: &PluginName, resolve: &Resolve, package: PackageId) -> Result<WorldId, DescribeError> {
    let package = &resolve.packages[package];
    if package.name.name != plugin.as_str() {
        return Err(DescribeError::OtherPackage {
            package: package.name.to_string(),
            plugin: plugin.to_string(),
        });
    }
    let only = if package.worlds.len() == 1 { package.worlds.values().next() } else { None };
    only.or_else(|| package.worlds.get(plugin.as_str())).copied().ok_or_else(|| {
        let mut worlds = package.worlds.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        if worlds.is_empty() {
            worlds = "(none)".into();
        }
        DescribeError::Worlds { worlds, plugin: plugin.to_string() }
    })
}

/// A resource that no function mentions would otherwise go by unseen.
fn no_resources(resolve: &Resolve, name: &str, interface: &Interface) -> Result<(), DescribeError> {
    let resource = interface
        .types
        .iter()
        .find(|(_, id)| matches!(resolve.types[**id].kind, wit_parser::TypeDefKind::Resource));
    match resource {
        Some((resource, _)) => Err(DescribeError::Unsupported {
            function: format!("{name}.{resource}"),
            why: "a resource has no form in JSON".into(),
        }),
        None => Ok(()),
    }
}

fn operation(
    plugin: &PluginName,
    interface: &str,
    function: &Function,
    resolve: &Resolve,
    shapes: &mut Shapes<'_>,
) -> Result<Operation, DescribeError> {
    let local = || format!("{interface}.{}", function.name);
    let unsupported = |why: String| DescribeError::Unsupported { function: local(), why };
    let shape_error = |error: ShapeError| match error {
        ShapeError::Unsupported(why) => unsupported(why),
        ShapeError::TooLarge { what, limit } => {
            DescribeError::TooLarge { what: format!("function {}: too many {what}", local()), limit }
        }
    };
    match function.kind {
        FunctionKind::Freestanding => {}
        FunctionKind::AsyncFreestanding => {
            return Err(unsupported("an async function can not be an operation".into()));
        }
        _ => return Err(unsupported("a function of a resource can not be an operation".into())),
    }
    let name = OperationName::new(plugin, interface, &function.name).map_err(|_| {
        unsupported("the names of operations are of lower-case letters, digits and `-`".into())
    })?;

    let planned = is_planned(resolve, function.result.as_ref());
    let names: Vec<&str> = function.params.iter().map(|param| param.name.as_str()).collect();
    let mut docs = docs::split(function.docs.contents.as_deref().unwrap_or_default(), &names);
    let mut params = Vec::with_capacity(names.len());
    // Who calls a planned operation is not asked for the fleet: the master fills it in.
    let fleet = |param: &Param| planned && param.name == FLEET && is_of_plans(resolve, &param.ty, FLEET);
    for param in function.params.iter().filter(|param| !fleet(param)) {
        params.push(Field {
            name: shapes.text(json_name(&param.name)).map_err(shape_error)?,
            shape: shapes
                .shape(&param.ty)
                .map_err(|error| match error {
                    ShapeError::Unsupported(why) => {
                        ShapeError::Unsupported(format!("parameter `{}`: {why}", param.name))
                    }
                    error => error,
                })
                .map_err(shape_error)?,
            docs: shapes.text(docs.params.remove(&param.name).unwrap_or_default()).map_err(shape_error)?,
        });
    }
    let result = function
        .result
        .as_ref()
        .map(|ty| shapes.shape(ty))
        .transpose()
        .map_err(|error| match error {
            ShapeError::Unsupported(why) => ShapeError::Unsupported(format!("its result: {why}")),
            error => error,
        })
        .map_err(shape_error)?;
    if result.as_ref().is_some_and(Shape::holds_secret) {
        return Err(unsupported("its result: a secret is given to an operation, and never returned".into()));
    }
    Ok(Operation {
        name,
        docs: shapes.text(docs.text).map_err(shape_error)?,
        signature: Signature { params, result },
        planned,
    })
}
