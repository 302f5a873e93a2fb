//! `windlass plugin check` and `pack`: is it right, and into one file.

use crate::{
    cli::plugin::project::{Check, Pack},
    commands::Context,
    exit::{Exit, Problem},
    output::Output,
    plugin::project::{Project, replace},
};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::path::Path;
use windlass_bundle::{Bundle, Package};
use windlass_describe::{PackError, Packed, operations};
use windlass_types::shape::Operation;

/// Look at manifest, WIT and, where there is one, the component.
pub fn check(context: &Context, check: &Check) -> Result<Exit> {
    let project = Project::open(&check.dir)?;
    let wrong = |error| unfit(&context.out, error, &format!("`{}` is wrong", project.dir.display()));
    let name = &project.manifest.name;
    let path = project.component();
    let (described, unlisted, component) = if path.is_file() {
        let component = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let Packed { operations, unlisted, .. } =
            windlass_describe::pack(project.manifest_text.clone(), component, &project.wit())
                .map_err(wrong)?;
        (operations, unlisted, Some(path))
    } else {
        let wit = windlass_describe::encode_wit(&project.wit()).map_err(wrong)?;
        let described = operations(name, &wit).map_err(|error| wrong(PackError::Describe(error)))?;
        let unlisted =
            windlass_describe::pack::check_described(&project.manifest, &described).map_err(wrong)?;
        (described, unlisted, None)
    };
    let mut warnings: Vec<String> = unlisted.iter().map(|operation| counts_as_destroy(operation)).collect();
    warnings.extend(described.iter().flat_map(undocumented));
    let value = json!({
        "plugin": name, "version": project.manifest.version.to_string(),
        "operations": described.iter().map(|operation| operation.name.local()).collect::<Vec<_>>(),
        "component": component, "warnings": warnings,
    });
    context.out.data(&value, |_| {
        let mut text = String::new();
        for warning in &warnings {
            text.push_str(&format!("warning: {warning}\n"));
        }
        let built = match &component {
            Some(_) => "manifest, WIT and component agree",
            None => "manifest and WIT agree; there is no component yet (`windlass plugin build`)",
        };
        text.push_str(&format!(
            "{} {}: {} operations; {built}\n",
            name,
            project.manifest.version,
            described.len()
        ));
        text
    })?;
    Ok(Exit::Success)
}

/// What keeps a plugin from being one. Where a line of WIT is the reason, it is shown first: a
/// cause is one line, and this is several.
pub fn unfit(out: &Output, error: PackError, what: &str) -> Problem {
    match error {
        PackError::Wit { dir, why } => {
            out.note(why.trim_end());
            Problem::failed(format!("can not read the WIT in `{}`", dir.display()))
        }
        other => Problem::failed(what).because(other),
    }
}

fn counts_as_destroy(operation: &str) -> String {
    format!("`{operation}` is not in plugin.toml, so it counts as `destroy`")
}

/// What help, forms and reference will lack.
fn undocumented(operation: &Operation) -> Vec<String> {
    let name = operation.name.local();
    let mut missing = Vec::new();
    if operation.docs.trim().is_empty() {
        missing.push(format!("`{name}` has no documentation (`///` above it in the WIT)"));
    }
    for param in &operation.signature.params {
        if param.docs.trim().is_empty() {
            let param = &param.name;
            missing
                .push(format!("`{name}`: the parameter `{param}` has no line `{param}: …` in its comment"));
        }
    }
    missing
}

/// Put a built plugin into one file.
pub fn pack(context: &Context, pack: &Pack) -> Result<Exit> {
    let project = Project::open(&pack.dir)?;
    let path = project.component();
    if !path.is_file() {
        return Err(Problem::failed(format!("`{}` is not there", path.display()))
            .hint("`windlass plugin build` makes it")
            .into());
    }
    let component = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let Packed { bundle, operations, unlisted } =
        windlass_describe::pack(project.manifest_text.clone(), component, &project.wit())
            .map_err(|error| unfit(&context.out, error, "the plugin can not be packed"))?;
    for operation in &unlisted {
        context.out.note(&format!("warning: {}", counts_as_destroy(operation)));
    }
    let file = pack.file.clone().unwrap_or_else(|| Path::new(&format!("{}.tar", project.stem())).to_owned());
    let digest = bundle.digest;
    let bytes = packaged(bundle)?;
    replace(&file, &bytes)?;
    let value = json!({
        "plugin": project.manifest.name, "version": project.manifest.version.to_string(),
        "digest": digest, "file": file, "size_bytes": bytes.len(),
        "operations": operations.iter().map(|operation| operation.name.local()).collect::<Vec<_>>(),
        "unlisted": unlisted,
    });
    context.out.data(&value, |_| {
        format!(
            "{}  {digest}\n{} KiB, {}, not signed\n",
            file.display(),
            bytes.len().div_ceil(1024),
            match operations.len() {
                1 => "1 operation".to_owned(),
                number => format!("{number} operations"),
            }
        )
    })?;
    Ok(Exit::Success)
}

fn packaged(bundle: Bundle) -> Result<Vec<u8>> {
    Ok(Package::new(bundle, Vec::new()).context("cannot make the package")?.to_bytes())
}
