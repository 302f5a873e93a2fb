//! `windlass plugin build`: from the sources of a plugin to its component.
//!
//! Each language has its tool and the tool its oddities; they end here. What all of them get is a
//! folder of WIT with the host interface in it, which no author has to copy.

mod c;
mod js;
mod python;
mod rust;

use crate::{
    cli::plugin::project::Build,
    commands::Context,
    exit::Exit,
    plugin::{
        check::unfit,
        project::{Language, Project, replace},
        tool::Tools,
    },
};
use anyhow::{Context as _, Result, anyhow};
use serde_json::json;
use std::{path::PathBuf, time::Instant};
use wit_parser::{Resolve, WorldId};

/// What a language's tool works with.
struct Job<'p> {
    project: &'p Project,
    tools: Tools<'p>,
    /// The WIT with all it depends on.
    wit: PathBuf,
    /// The world that is the plugin.
    world: String,
}

pub fn build(context: &Context, build: &Build) -> Result<Exit> {
    let project = Project::open(&build.dir)?;
    let start = Instant::now();
    let (language, component) = make(context, &project, build.verbose_tools)?;
    let took = start.elapsed();
    let path = project.component();
    let value = json!({
        "plugin": project.manifest.name, "version": project.manifest.version.to_string(),
        "language": language.name(), "component": path, "size_bytes": component.len(),
        "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    });
    context.out.data(&value, |_| {
        format!(
            "{}  {} KiB, {} in {:.1} s\n",
            path.display(),
            component.len().div_ceil(1024),
            language.name(),
            took.as_secs_f64()
        )
    })?;
    Ok(Exit::Success)
}

/// Build a project, and put its component in its place.
pub fn make(context: &Context, project: &Project, verbose: bool) -> Result<(Language, Vec<u8>)> {
    let language = project.language()?;
    let wit = project.output().join("wit");
    let world = windlass_describe::stage_wit(&project.wit(), &project.manifest.name, &wit)
        .map_err(|error| unfit(&context.out, error, "the WIT can not be used"))?;
    let job = Job { project, tools: Tools { out: &context.out, verbose }, wit, world };
    let component = match language {
        Language::Rust => rust::build(&job),
        Language::Python => python::build(&job),
        Language::Js => js::build(&job),
        Language::C => c::build(&job),
    }?;
    replace(&project.component(), &component)?;
    Ok((language, component))
}

impl Job<'_> {
    /// A folder for what the tool makes on its way, made if need be.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let dir = self.project.output().join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
        // Tools run in the folder of the project.
        std::path::absolute(&dir).with_context(|| format!("cannot tell where `{}` is", dir.display()))
    }

    /// The staged WIT as an absolute path.
    fn wit(&self) -> Result<PathBuf> {
        std::path::absolute(&self.wit).context("cannot tell where the current folder is")
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// The staged WIT with all it depends on, and its world.
fn resolve(job: &Job<'_>) -> Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(&job.wit).map_err(|error| anyhow!("{error:#}"))?;
    let world = resolve.packages[package].worlds.get(&job.world).copied();
    Ok((resolve, world.with_context(|| format!("there is no world `{}`", job.world))?))
}
