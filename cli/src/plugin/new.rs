//! `windlass plugin new`: a folder to begin with.

use crate::{
    cli::plugin::project::New,
    commands::Context,
    exit::{Exit, Problem},
    plugin::project::Language,
};
use anyhow::{Context as _, Result};
use std::path::Path;
use windlass_types::PluginName;

/// A file of a template: its path and its text.
type File = (&'static str, &'static str);

/// The files of a folder of templates.
macro_rules! files {
    ($folder:literal: $($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../templates/", $folder, "/", $path)))),+]
    };
}

/// What every plugin begins with.
const COMMON: &[File] = files! { "common":
    "plugin.toml",
    "wit/world.wit",
    "cases/README.md",
    "cases/not-a-path/call.json",
    "cases/not-a-path/cassette.json",
    "cases/not-a-path/expected-denial.json",
    "cases/not-there/call.json",
    "cases/not-there/cassette.json",
    "cases/not-there/expected-error.json",
    "cases/usage-of-a-filesystem/call.json",
    "cases/usage-of-a-filesystem/cassette.json",
    "cases/usage-of-a-filesystem/expected.json",
};

fn files(language: Language) -> &'static [File] {
    match language {
        Language::Rust => files!("rust": "Cargo.toml", "src/lib.rs", "README.md", ".gitignore"),
        Language::Python => files!("python": "app.py", "README.md", ".gitignore"),
        Language::Js => files!("js": "plugin.js", "jsconfig.json", "README.md", ".gitignore"),
        Language::C => files!("c": "plugin.c", "README.md", ".gitignore"),
    }
}

pub fn new(context: &Context, new: &New) -> Result<Exit> {
    let dir = new.dir.clone().unwrap_or_else(|| Path::new(new.name.as_str()).to_owned());
    let sdk = match (&new.sdk, new.lang) {
        (Some(path), Language::Rust) => {
            let path = std::fs::canonicalize(path)
                .with_context(|| format!("there is no SDK in `{}`", path.display()))?;
            format!("{{ path = {:?} }}", path.display().to_string())
        }
        (Some(_), _) => return Err(Problem::usage("`--sdk` is for plugins in Rust").into()),
        (None, _) => format!("\"{}\"", env!("CARGO_PKG_VERSION")),
    };
    if dir.exists() && std::fs::read_dir(&dir).map_or(true, |mut entries| entries.next().is_some()) {
        return Err(Problem::failed(format!("`{}` is there already", dir.display()))
            .hint("give another folder with `--dir`; nothing is ever overwritten")
            .into());
    }
    // Words of its grammar, such as `list`, are no names in WIT.
    let package = format!("package local:{name};\nworld {name} {{}}\n", name = new.name);
    if wit_parser::UnresolvedPackageGroup::parse("world.wit", &package).is_err() {
        return Err(Problem::usage(format!(
            "`{}` is a word of WIT, so no package can have that name",
            new.name
        ))
        .hint(format!("take another one, such as `{}-tool`", new.name))
        .into());
    }
    for (path, text) in COMMON.iter().chain(files(new.lang)) {
        let text = fill(text, &new.name, &sdk);
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&dir))
            .with_context(|| format!("cannot make the folder of `{}`", path.display()))?;
        let mut file =
            std::fs::File::create_new(&path).with_context(|| format!("cannot make `{}`", path.display()))?;
        std::io::Write::write_all(&mut file, text.as_bytes())
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    let folder = dir.display();
    context.out.note(&format!(
        "made `{folder}`, a plugin in {}: `plugin.toml` says what it may touch, `wit/` what it offers\n\n  \
         cd {folder}\n  windlass plugin build\n  windlass plugin run disk.usage path=/\n  windlass plugin test\n  windlass plugin pack",
        new.lang.name()
    ));
    Ok(Exit::Success)
}

fn fill(text: &str, name: &PluginName, sdk: &str) -> String {
    let snake = name.as_str().replace('-', "_");
    text.replace("{{name}}", name.as_str())
        .replace("{{upper}}", &snake.to_uppercase())
        .replace("{{snake}}", &snake)
        .replace("{{sdk}}", sdk)
}
