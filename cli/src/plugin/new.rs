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

macro_rules! case {
    ($case:literal, $file:literal) => {
        (
            concat!("cases/", $case, "/", $file),
            include_str!(concat!("../../templates/common/cases/", $case, "/", $file)),
        )
    };
}

/// What every plugin begins with.
const COMMON: &[File] = &[
    ("plugin.toml", include_str!("../../templates/common/plugin.toml")),
    ("wit/world.wit", include_str!("../../templates/common/wit/world.wit")),
    case!("not-there", "call.json"),
    case!("not-there", "cassette.json"),
    case!("not-there", "expected-error.json"),
    case!("usage-of-a-filesystem", "call.json"),
    case!("usage-of-a-filesystem", "cassette.json"),
    case!("usage-of-a-filesystem", "expected.json"),
];

fn files(language: Language) -> &'static [File] {
    match language {
        Language::Rust => &[
            ("Cargo.toml", include_str!("../../templates/rust/Cargo.toml")),
            ("src/lib.rs", include_str!("../../templates/rust/src/lib.rs")),
            ("README.md", include_str!("../../templates/rust/README.md")),
            (".gitignore", include_str!("../../templates/rust/.gitignore")),
        ],
        Language::Python => &[
            ("app.py", include_str!("../../templates/python/app.py")),
            ("README.md", include_str!("../../templates/python/README.md")),
            (".gitignore", include_str!("../../templates/python/.gitignore")),
        ],
        Language::Js => &[
            ("plugin.js", include_str!("../../templates/js/plugin.js")),
            ("README.md", include_str!("../../templates/js/README.md")),
            (".gitignore", include_str!("../../templates/js/.gitignore")),
        ],
        Language::C => &[
            ("plugin.c", include_str!("../../templates/c/plugin.c")),
            ("README.md", include_str!("../../templates/c/README.md")),
            (".gitignore", include_str!("../../templates/c/.gitignore")),
        ],
    }
}

/// Memory that a language needs beside the plugin's own, as the manifest writes it.
fn memory(language: Language) -> &'static str {
    match language {
        Language::Rust | Language::C => "64MiB",
        Language::Python | Language::Js => "256MiB",
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
    for (path, text) in COMMON.iter().chain(files(new.lang)) {
        let text = fill(text, &new.name, &sdk, new.lang);
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
         cd {folder}\n  windlass plugin build\n  windlass plugin test\n  \
         windlass plugin run disk.usage path=/\n  windlass plugin pack",
        new.lang.name()
    ));
    Ok(Exit::Success)
}

fn fill(text: &str, name: &PluginName, sdk: &str, language: Language) -> String {
    let snake = name.as_str().replace('-', "_");
    text.replace("{{name}}", name.as_str())
        .replace("{{upper}}", &snake.to_uppercase())
        .replace("{{snake}}", &snake)
        .replace("{{sdk}}", sdk)
        .replace("memory = \"64MiB\"", &format!("memory = \"{}\"", memory(language)))
}
