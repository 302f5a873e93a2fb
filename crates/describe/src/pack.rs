//! Making a bundle from what an author has: a manifest, a component, a folder of WIT.
//!
//! Everything a host or a master would refuse later is refused here, while the author looks.

use crate::{
    DescribeError, Disagreement, check_agreement, component_operations, expression::ExpressionError,
    operations,
};
use std::path::{Path, PathBuf};
use windlass_bundle::{
    Bundle, BundleError, Manifest,
    manifest::{Exported, Unfit},
};
use windlass_types::{PluginName, shape::Operation};
use wit_parser::{Resolve, SourceMap, UnresolvedPackageGroup};

mod alerts;
#[cfg(test)]
mod tests;

/// A bundle, and what is in it.
#[derive(Debug)]
pub struct Packed {
    /// The bundle.
    pub bundle: Bundle,
    /// Its operations, documented.
    pub operations: Vec<Operation>,
    /// Operations (`interface.function`) that the manifest does not mention, so that they count as
    /// `destroy`. Worth a warning.
    pub unlisted: Vec<String>,
}

/// Why a bundle can not be made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The folder of WIT is not a package.
    #[error("can not read the WIT in {}: {why}", dir.display())]
    Wit {
        /// The folder.
        dir: PathBuf,
        /// What the parser said, with lines of the text.
        why: String,
    },
    /// The WIT could not be laid out.
    #[error("can not lay the WIT out in {}", dir.display())]
    Stage {
        /// The folder.
        dir: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The manifest or another part is wrong.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The WIT can not be described.
    #[error("the WIT can not be used")]
    Describe(#[source] DescribeError),
    /// The component can not be described.
    #[error("the component can not be used")]
    Component(#[source] DescribeError),
    /// The component is not what the WIT says.
    #[error("the component and the WIT do not agree")]
    Disagreement(#[from] Disagreement),
    /// Nothing to call.
    #[error("the world exports no interface of the package `{package}`, so there is no operation")]
    NoOperations {
        /// Name the package must have.
        package: String,
    },
    /// The manifest speaks of an operation that is not there, or is another than it thinks.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The condition of an alert can't be right.
    #[error("plugin.toml: `alerts.{alert}.when`: the expression {problem}")]
    Alert {
        /// Its name.
        alert: String,
        /// What is wrong with it.
        problem: ExpressionError,
    },
}

/// Make a bundle, and check all that can be checked.
///
/// # Errors
/// With the first thing that is wrong.
pub fn pack(manifest_text: Vec<u8>, component: Vec<u8>, wit_dir: &Path) -> Result<Packed, PackError> {
    let bundle = Bundle::from_parts(manifest_text, component, encode_wit(wit_dir)?)?;
    let (operations, unlisted) = check(&bundle)?;
    Ok(Packed { bundle, operations, unlisted })
}

/// Check a bundle as [`pack`] does. Gives its operations, and those the manifest does not mention.
///
/// # Errors
/// With the first thing that is wrong.
pub fn check(bundle: &Bundle) -> Result<(Vec<Operation>, Vec<String>), PackError> {
    let manifest = &bundle.manifest;
    let described = operations(&manifest.name, &bundle.wit).map_err(PackError::Describe)?;
    let exported = component_operations(&manifest.name, &bundle.component).map_err(PackError::Component)?;
    check_agreement(&described, &exported)?;
    let unlisted = check_described(manifest, &described)?;
    Ok((described, unlisted))
}

/// Check a manifest against the operations of its WIT, for who has no component yet. Gives those
/// that the manifest does not mention.
///
/// # Errors
/// With the first thing that is wrong.
pub fn check_described(manifest: &Manifest, described: &[Operation]) -> Result<Vec<String>, PackError> {
    if described.is_empty() {
        return Err(PackError::NoOperations { package: format!("…:{}", manifest.name) });
    }
    let exported: Vec<Exported<'_>> = described
        .iter()
        .map(|operation| Exported {
            local: operation.name.local(),
            signature: &operation.signature,
            planned: operation.planned,
        })
        .collect();
    manifest.fits(&exported)?;
    alerts::check(manifest, described)?;
    let unlisted = described
        .iter()
        .map(|operation| operation.name.local())
        .filter(|local| !manifest.operations.contains_key(*local))
        .map(str::to_owned)
        .collect();
    Ok(unlisted)
}

/// Encode a folder of WIT text, with its dependencies in `deps/`, as a binary package that keeps
/// the documentation. The same text gives the same bytes.
///
/// The packages of Windlass need not be among the dependencies: where they are not, those of this version
/// are used.
///
/// # Errors
/// If the folder can not be read, or is not a package.
pub fn encode_wit(wit_dir: &Path) -> Result<Vec<u8>, PackError> {
    let fail = |why: String| PackError::Wit { dir: wit_dir.to_owned(), why };
    // A file would do for the parser, and a mistyped path would be told as a syntax error.
    if !wit_dir.is_dir() {
        return Err(fail("it is not a folder".into()));
    }
    let mut resolve = Resolve::default();
    for (package, texts) in PROVIDED.iter().filter(|(package, _)| !brings(&wit_dir.join("deps"), package)) {
        push(&mut resolve, package, texts).map_err(fail)?;
    }
    let (package, _) = resolve.push_dir(wit_dir).map_err(|error| fail(resolve.render_error(&error)))?;
    wit_component::encode(&resolve, package).map_err(|error| fail(format!("{error:#}")))
}

/// The packages of Windlass as this version has them.
const PROVIDED: [(&str, &[(&str, &str)]); 2] = [
    (
        "host",
        &[
            ("world.wit", include_str!("../../../wit/host/world.wit")),
            ("commands.wit", include_str!("../../../wit/host/commands.wit")),
            ("files.wit", include_str!("../../../wit/host/files.wit")),
            ("job.wit", include_str!("../../../wit/host/job.wit")),
            ("log.wit", include_str!("../../../wit/host/log.wit")),
            ("output.wit", include_str!("../../../wit/host/output.wit")),
            ("probes.wit", include_str!("../../../wit/host/probes.wit")),
            ("secrets.wit", include_str!("../../../wit/host/secrets.wit")),
            ("state.wit", include_str!("../../../wit/host/state.wit")),
        ],
    ),
    ("plan", &[("types.wit", include_str!("../../../wit/plan/types.wit"))]),
];

/// Lay a folder of WIT text out as toolchains want it, with the packages of Windlass among its
/// dependencies where it brings none of its own, and give the name of its world.
///
/// # Errors
/// If the folder can not be read or written, is not a package, or has no world that is the plugin.
pub fn stage_wit(wit_dir: &Path, plugin: &PluginName, to: &Path) -> Result<String, PackError> {
    let encoded = encode_wit(wit_dir)?;
    let world = crate::operations::world_name(plugin, &encoded).map_err(PackError::Describe)?;
    let stage = || -> std::io::Result<()> {
        if to.exists() {
            std::fs::remove_dir_all(to)?;
        }
        copy_wit(wit_dir, to)?;
        for (package, texts) in PROVIDED.iter().filter(|(package, _)| !brings(&wit_dir.join("deps"), package))
        {
            let folder = to.join("deps").join(package);
            std::fs::create_dir_all(&folder)?;
            for (file, text) in *texts {
                std::fs::write(folder.join(file), text)?;
            }
        }
        Ok(())
    };
    stage().map_err(|source| PackError::Stage { dir: to.to_owned(), source })?;
    Ok(world)
}

fn copy_wit(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_wit(&path, &target)?;
        } else if path.extension().is_some_and(|kind| kind == "wit") {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

fn push(resolve: &mut Resolve, package: &str, texts: &[(&str, &str)]) -> Result<(), String> {
    let mut sources = SourceMap::default();
    for (file, text) in texts {
        sources.push_str(&format!("{package}/{file}"), *text);
    }
    let group = sources.parse().map_err(|(_, error)| error.to_string())?;
    resolve.push_group(group).map(drop).map_err(|error| format!("{error:#}"))
}

/// Whether one of the dependencies is this package of Windlass. One that can not be read is left for the
/// real reading to complain about.
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
