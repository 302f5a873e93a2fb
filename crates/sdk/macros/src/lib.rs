//! The macros of `windlass-sdk`, which documents them. They join the WIT of a plugin with that of
//! Windlass, which they carry, and let wit-bindgen make Rust of it.

use heck::ToSnakeCase as _;
use proc_macro::{TokenStream, TokenTree};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};
use wit_bindgen_core::{
    Files, WorldGenerator as _, name_package_module,
    wit_parser::{PackageId, Resolve, SourceMap, UnresolvedPackageGroup, WorldId, WorldItem, WorldKey},
};
use wit_bindgen_rust::{Opts, WithOption, to_rust_ident};

/// The packages of Windlass as this version has them.
const PROVIDED: [(&str, &[(&str, &str)]); 2] = [
    (
        "host",
        &[
            ("world.wit", include_str!("../wit/host/world.wit")),
            ("commands.wit", include_str!("../wit/host/commands.wit")),
            ("files.wit", include_str!("../wit/host/files.wit")),
            ("job.wit", include_str!("../wit/host/job.wit")),
            ("log.wit", include_str!("../wit/host/log.wit")),
            ("output.wit", include_str!("../wit/host/output.wit")),
            ("probes.wit", include_str!("../wit/host/probes.wit")),
            ("secrets.wit", include_str!("../wit/host/secrets.wit")),
            ("state.wit", include_str!("../wit/host/state.wit")),
        ],
    ),
    ("plan", &[("types.wit", include_str!("../wit/plan/types.wit"))]),
];

/// All that the SDK has bindings of.
const SDK_WORLD: &str = "package windlass:sdk;
    world all { include windlass:host/imports@0.1.0; import windlass:plan/types@0.1.0; }";

/// Where the SDK keeps the bindings of the host, and the crate they are made with.
const SDK: &str = "::windlass_sdk::__bindings";

/// See `windlass_sdk::plugin!`.
#[proc_macro]
pub fn plugin(input: TokenStream) -> TokenStream {
    let source = folder(input).and_then(|folder| plugin_source(&folder));
    tokens(source)
}

/// The bindings of the host. For the SDK itself.
#[proc_macro]
pub fn host(_input: TokenStream) -> TokenStream {
    tokens(host_source())
}

fn tokens(source: anyhow::Result<String>) -> TokenStream {
    let source =
        source.unwrap_or_else(|error| format!("::core::compile_error!({:?});", format!("{error:#}")));
    match source.parse() {
        Ok(tokens) => tokens,
        Err(error) => panic!("wit-bindgen made what is not Rust: {error}"),
    }
}

/// The folder of WIT: `wit` beside Cargo.toml, or the one that is named.
fn folder(input: TokenStream) -> anyhow::Result<PathBuf> {
    let name = match input.into_iter().collect::<Vec<_>>().as_slice() {
        [] => "wit".to_owned(),
        [TokenTree::Literal(literal)] => literal.to_string().trim_matches('"').to_owned(),
        _ => anyhow::bail!("expected nothing, or the folder of WIT as a text: plugin!(\"wit\")"),
    };
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    Ok(Path::new(&root).join(name))
}

fn host_source() -> anyhow::Result<String> {
    let mut resolve = Resolve::default();
    for (package, texts) in PROVIDED {
        push(&mut resolve, package, texts)?;
    }
    let package = push(&mut resolve, "sdk", &[("world.wit", SDK_WORLD)])?;
    let world = resolve.select_world(&[package], Some("all"))?;
    generate(&mut resolve, world, Opts { generate_all: true, generate_unused_types: true, ..options() })
}

fn plugin_source(folder: &Path) -> anyhow::Result<String> {
    // A file would do for the parser, and a mistyped path would be told as a syntax error.
    anyhow::ensure!(folder.is_dir(), "there is no folder {}", folder.display());
    let mut resolve = Resolve::default();
    for (package, texts) in PROVIDED.iter().filter(|(package, _)| !brings(&folder.join("deps"), package)) {
        push(&mut resolve, package, texts)?;
    }
    let (package, sources) = resolve
        .push_dir(folder)
        .map_err(|error| anyhow::anyhow!("can not read the WIT:\n{}", resolve.render_error(&error)))?;
    let world = only_world(&resolve, package)?;

    let mut options = options();
    options.runtime_path = Some(format!("{SDK}::wit_bindgen::rt"));
    options.generate_all = true;
    options.with = provided_interfaces(&resolve, world);
    let api = api(&resolve, world, package);
    let bindings = generate(&mut resolve, world, options)?;

    // The compiler builds anew when the WIT changes: it believes that its text is part of the crate.
    let mut texts = String::new();
    for path in sources.paths() {
        writeln!(texts, "const _: &[u8] = ::core::include_bytes!({:?});", path.display().to_string())?;
    }
    Ok(format!(
        r#"
        #[doc(hidden)]
        #[allow(unsafe_code, missing_docs, dead_code, reason = "generated from WIT")]
        mod bindings {{ {bindings} }}
        {api}
        /// The plugin: implements `Guest` of each interface in [`api`].
        #[derive(Debug, Clone, Copy)]
        pub struct Plugin;
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "generated: the symbols of the canonical ABI")]
        const _: () = {{ bindings::export!(Plugin with_types_in bindings); }};
        {texts}
        "#
    ))
}

/// What is the same for host and plugin. Tests compare values, so they can be compared.
fn options() -> Opts {
    Opts { additional_derive_attributes: vec!["PartialEq".into()], ..Opts::default() }
}

fn generate(resolve: &mut Resolve, world: WorldId, options: Opts) -> anyhow::Result<String> {
    let mut files = Files::default();
    options.build().generate(resolve, world, &mut files)?;
    let source: Vec<u8> = files.iter().flat_map(|(_, source)| source.iter().copied()).collect();
    Ok(String::from_utf8(source)?)
}

/// The only world of a package.
fn only_world(resolve: &Resolve, package: PackageId) -> anyhow::Result<WorldId> {
    let worlds = &resolve.packages[package].worlds;
    match worlds.values().collect::<Vec<_>>().as_slice() {
        [world] => Ok(**world),
        [] => anyhow::bail!("the package {} has no world", resolve.packages[package].name),
        _ => anyhow::bail!(
            "the package {} has more than one world: {}",
            resolve.packages[package].name,
            worlds.keys().cloned().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The interfaces of Windlass are those of the SDK, so that its functions and the plugin speak of
/// the same types.
fn provided_interfaces(resolve: &Resolve, world: WorldId) -> Vec<(String, WithOption)> {
    let imports = resolve.worlds[world].imports.keys();
    let provided = imports.filter_map(|key| {
        let WorldKey::Interface(id) = *key else { return None };
        let interface = &resolve.interfaces[id];
        let name = &resolve.packages[interface.package?].name;
        let full = resolve.id_of(id)?;
        let module = to_rust_ident(&interface.name.as_ref()?.to_snake_case());
        let ours = name.namespace == "windlass" && PROVIDED.iter().any(|(package, _)| *package == name.name);
        let path = || format!("{SDK}::windlass::{}::{module}", name.name);
        ours.then(|| (full, WithOption::Path(path())))
    });
    provided.collect()
}

/// A module that names the exported interfaces of the plugin's own package, however long the way to
/// them is. For wasm the linker needs their functions; anywhere else nobody does, so a test would
/// not miss one that is not written yet: the second half asks for them.
fn api(resolve: &Resolve, world: WorldId, package: PackageId) -> String {
    let name = &resolve.packages[package].name;
    let namespace = to_rust_ident(&name.namespace.to_snake_case());
    let package_module = to_rust_ident(&name_package_module(resolve, package));
    let exported = resolve.worlds[world].exports.iter().filter_map(|(key, item)| match (key, item) {
        (WorldKey::Interface(id), WorldItem::Interface { .. }) => Some(&resolve.interfaces[*id]),
        _ => None,
    });
    let (mut modules, mut asked) = (Vec::new(), String::new());
    for interface in exported.filter(|interface| interface.package == Some(package)) {
        let module = to_rust_ident(&interface.name.as_deref().unwrap_or_default().to_snake_case());
        if !interface.functions.is_empty() {
            asked.push_str(&format!(
                "const _: fn() = || {{ fn implements<T: api::{module}::Guest>() {{}} implements::<Plugin>() }};"
            ));
        }
        modules.push(module);
    }
    format!(
        "/// The interfaces that the plugin exports.\n\
         pub mod api {{ pub use super::bindings::exports::{namespace}::{package_module}::{{{}}}; }}\n\
         {asked}",
        modules.join(", ")
    )
}

fn push(resolve: &mut Resolve, package: &str, texts: &[(&str, &str)]) -> anyhow::Result<PackageId> {
    let mut sources = SourceMap::default();
    for (file, text) in texts {
        sources.push_str(&format!("{package}/{file}"), *text);
    }
    let group = sources.parse().map_err(|(_, error)| anyhow::anyhow!("the WIT of {package}: {error}"))?;
    Ok(resolve.push_group(group)?)
}

/// Whether one of the dependencies is this package, as with plugins made before the SDK. One that can
/// not be read is left for the real reading to complain about.
fn brings(deps: &Path, package: &str) -> bool {
    let packages = std::fs::read_dir(deps).into_iter().flatten().flatten().filter_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return UnresolvedPackageGroup::parse_dir(&path).ok();
        }
        let text = std::fs::read_to_string(&path).ok()?;
        UnresolvedPackageGroup::parse(&path, &text).ok()
    });
    packages.map(|group| group.main.name).any(|name| name.namespace == "windlass" && name.name == package)
}

#[cfg(test)]
mod tests;
