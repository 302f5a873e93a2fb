//! What a plugin may do on a node: what its manifest asks for, less what the node forbids, less what
//! the operator did not approve.
//!
//! Every question is answered before anything happens, with the rule that allows it or with a
//! [`Denial`] that names the key of the manifest (or of the host's configuration) to look at.

#[cfg(test)]
mod tests;

use crate::{
    approval::Approval,
    grammar::{self, Mismatch},
    manifest::{Access, FileRule, Manifest, OperationPolicy, ProbeName, Program, Rule, SecretPlaces},
    path::AbsolutePath,
    policy::NodePolicy,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};
use windlass_types::{Denial, Effect, PluginName, json::nearest};

/// What a plugin may do on a node.
#[derive(Debug, Clone)]
pub struct Grants {
    plugin: PluginName,
    commands: BTreeMap<String, Program>,
    files: Vec<FileRule>,
    probes: BTreeSet<ProbeName>,
    state: bool,
    operations: BTreeMap<String, OperationPolicy>,
    policy: NodePolicy,
    approval: Option<Approval>,
}

/// A program that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandGrant {
    /// Absolute paths; the first that exists is run.
    pub paths: Vec<PathBuf>,
    /// The rule that allows it, such as `commands.zpool.allow[0]`.
    pub rule: String,
    /// What that rule says the program does.
    pub effect: Effect,
}

/// A file that may be touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileGrant {
    /// Directory beneath which it is opened.
    pub root: PathBuf,
    /// Where it lies there; empty for the directory itself.
    pub relative: PathBuf,
    /// The rule that allows it, such as `files[0]`.
    pub rule: String,
    /// What that rule says the access does.
    pub effect: Effect,
}

impl Grants {
    /// What a manifest asks for, less what the node forbids.
    pub fn new(manifest: &Manifest, policy: &NodePolicy) -> Grants {
        Grants {
            plugin: manifest.name.clone(),
            commands: manifest.commands.clone(),
            files: manifest.files.clone(),
            probes: manifest.probes.clone(),
            state: manifest.state,
            operations: manifest.operations.clone(),
            policy: policy.clone(),
            approval: None,
        }
    }

    /// The same, less what the operator did not approve.
    pub fn narrowed(self, approval: Approval) -> Grants {
        Grants { approval: Some(approval), ..self }
    }

    /// The strongest effect that node and operator allow.
    fn max_effect(&self) -> Effect {
        let approved = self.approval.as_ref().map_or(Effect::Destroy, |approval| approval.max_effect);
        self.policy.max_effect.min(approved)
    }

    /// Who allows no more than [`Grants::max_effect`], in words.
    fn who_limits(&self) -> String {
        match &self.approval {
            Some(approval) if approval.max_effect < self.policy.max_effect => {
                format!("the operator approved effects up to `{}`", approval.max_effect)
            }
            _ => format!("this node's policy allows `max_effect = \"{}\"`", self.policy.max_effect),
        }
    }

    /// Whether a program may run with these arguments during an operation of this effect.
    ///
    /// # Errors
    /// If no rule allows it, or the node forbids it.
    pub fn command(&self, program: &str, args: &[String], operation: Effect) -> Result<CommandGrant, Denial> {
        self.command_with(program, args, operation, &SecretPlaces::default())
    }

    /// Whether a program may run with these arguments during an operation of this effect, and be given
    /// secrets in these places.
    ///
    /// # Errors
    /// As [`Grants::command`].
    pub fn command_with(
        &self,
        program: &str,
        args: &[String],
        operation: Effect,
        secrets: &SecretPlaces,
    ) -> Result<CommandGrant, Denial> {
        let deny = |missing: String| {
            Err(Denial { capability: "commands.run".into(), request: show_command(program, args), missing })
        };
        let Some((name, asked)) = self.commands.get_key_value(program) else {
            let known = nearest(program, self.commands.keys().map(String::as_str));
            return deny(format!(
                "the manifest has no `[commands.{}]`{}",
                show_key(program),
                known.map(|hint| format!("; {hint}")).unwrap_or_default()
            ));
        };
        if let Err(why) = grammar::check_limits(args) {
            return deny(why);
        }
        let rule_name = |index: usize| format!("commands.{}.allow[{index}]", show_key(name));
        let fits = |(_, rule): &(usize, &Rule)| rule.grammar.matches(args).is_ok();
        let matching =
            |(index, rule): &(usize, &Rule)| rule.secrets.covers(secrets) && fits(&(*index, *rule));
        let rules = || asked.allow.iter().enumerate();

        if self.policy.deny_commands.contains(name) {
            return deny(format!("this node's policy forbids it: `deny_commands` holds `{name}`"));
        }
        let limit = operation.min(self.max_effect());
        if let Some((index, rule)) = rules().filter(|(_, rule)| rule.effect <= limit).find(matching) {
            return Ok(CommandGrant {
                paths: asked.paths.clone(),
                rule: rule_name(index),
                effect: rule.effect,
            });
        }
        match rules().find(matching) {
            Some((index, rule)) => deny(self.too_strong(&rule_name(index), rule.effect, operation)),
            None => deny(match rules().find(fits) {
                Some((index, rule)) => {
                    let lacks = |place: &&str| !rule.secrets.words().any(|has| has == *place);
                    let lacking: Vec<&str> = secrets.words().filter(lacks).collect();
                    let lacking = clip(&lacking.join("`, `").escape_debug().to_string());
                    format!("`{}` matches, but its `secrets` do not hold `{lacking}`", rule_name(index))
                }
                None => format!(
                    "no rule of `commands.{}.allow` matches these arguments{}",
                    show_key(name),
                    closest(&asked.allow, args, &rule_name)
                ),
            }),
        }
    }

    /// Why a rule that fits does not apply.
    fn too_strong(&self, rule: &str, effect: Effect, operation: Effect) -> String {
        if effect > operation {
            format!(
                "`{rule}` matches, but its effect is `{effect}` and that of the operation is `{operation}` \
                 (`effect` of the operation in the manifest)"
            )
        } else {
            format!("`{rule}` matches, but its effect is `{effect}` and {}", self.who_limits())
        }
    }

    /// Whether a file may be touched during an operation of this effect.
    ///
    /// # Errors
    /// If no rule allows it, or the node forbids it.
    pub fn file(&self, path: &str, access: Access, operation: Effect) -> Result<FileGrant, Denial> {
        let deny = |missing: String| {
            Err(Denial {
                capability: format!("files.{}", access.as_str()),
                request: clip(&path.escape_debug().to_string()),
                missing,
            })
        };
        let path = match AbsolutePath::parse(path) {
            Ok(path) => path,
            Err(why) => return deny(format!("the path {why}")),
        };
        if let Some(denied) = self.policy.deny_paths.iter().find(|denied| denied.covers(path.as_str())) {
            return deny(format!("this node's policy forbids it: `deny_paths` holds `{denied}`"));
        }
        let limit = operation.min(self.max_effect());
        let covering = || {
            self.files.iter().enumerate().filter_map(|(index, rule)| {
                rule.path.covers(&path).map(|relative| (format!("files[{index}]"), rule, relative))
            })
        };
        // Writing a directory's own entry is up to the rules for the directory above it.
        let is_root = |relative: &PathBuf| access == Access::Write && relative.as_os_str().is_empty();
        let fitting = || covering().filter(|(_, rule, relative)| rule.access == access && !is_root(relative));
        if let Some((name, rule, relative)) = fitting().find(|(_, rule, _)| rule.effect <= limit) {
            let root = rule.path.root().to_path_buf();
            return Ok(FileGrant { root, relative, rule: name, effect: rule.effect });
        }
        if let Some((name, rule, _)) = fitting().next() {
            return deny(self.too_strong(&name, rule.effect, operation));
        }
        if let Some((name, _, _)) = covering().find(|(_, rule, _)| rule.access == access) {
            return deny(format!("`{name}` allows what is beneath `{path}`, not to replace or remove it"));
        }
        match covering().next() {
            Some((name, rule, _)) => deny(format!(
                "`{name}` covers the path for `access = \"{}\"` only: add a rule with `access = \"{}\"`",
                rule.access.as_str(),
                access.as_str()
            )),
            None => {
                deny(format!("no `[[files]]` rule with `access = \"{}\"` covers this path", access.as_str()))
            }
        }
    }

    /// Whether a probe may be read, by the name of its function.
    ///
    /// # Errors
    /// If the manifest does not ask for it, or the node forbids it.
    pub fn probe(&self, name: &str) -> Result<String, Denial> {
        let deny = |missing: String| {
            Err(Denial { capability: format!("probes.{}", show_key(name)), request: clip(name), missing })
        };
        let asked = self.probes.iter().any(|probe| probe.as_str() == name);
        if !asked {
            return deny(format!("`probes` in the manifest does not hold `{}`", clip(name)));
        }
        if self.policy.deny_probes.iter().any(|denied| denied == name) {
            return deny(format!("this node's policy forbids it: `deny_probes` holds `{name}`"));
        }
        Ok(format!("probes.{name}"))
    }

    /// Whether the plugin may keep state on the node.
    ///
    /// # Errors
    /// If the manifest does not ask for it, or the node forbids it.
    pub fn state(&self) -> Result<String, Denial> {
        let deny = |missing: &str| {
            Err(Denial { capability: "state".into(), request: "state".into(), missing: missing.into() })
        };
        if !self.state {
            return deny("the manifest does not say `state = true`");
        }
        if self.policy.deny_state {
            return deny("this node's policy forbids it: `deny_state = true`");
        }
        Ok("state".into())
    }

    /// Whether an operation may be called, by `interface.function`, and how it is treated.
    ///
    /// # Errors
    /// If the node forbids it.
    pub fn operation(&self, local: &str) -> Result<OperationPolicy, Denial> {
        let deny = |missing: String| {
            Err(Denial {
                capability: "operation".into(),
                request: format!("{}.{}", self.plugin, clip(local)),
                missing,
            })
        };
        let policy = self.operations.get(local).cloned().unwrap_or_default();
        if self.policy.deny_operations.iter().any(|denied| denied == local) {
            return deny(format!("this node's policy forbids it: `deny_operations` holds `{local}`"));
        }
        if self.approval.as_ref().is_some_and(|approval| approval.deny_operations.contains(local)) {
            return deny("the operator did not approve this operation".into());
        }
        if policy.effect > self.max_effect() {
            let source =
                if self.operations.contains_key(local) { "" } else { " (it is not in the manifest)" };
            return deny(format!(
                "the effect of the operation is `{}`{source} and {}",
                policy.effect,
                self.who_limits()
            ));
        }
        Ok(policy)
    }
}

/// Which rule follows the arguments furthest, and what it has where they part.
fn closest(rules: &[Rule], args: &[String], name: &impl Fn(usize) -> String) -> String {
    let furthest = rules
        .iter()
        .enumerate()
        .filter_map(|(index, rule)| rule.grammar.matches(args).err().map(|mismatch| (index, mismatch)))
        // Of equals the first.
        .reduce(|best, other| if other.1.at > best.1.at { other } else { best });
    let Some((index, Mismatch { at, expected })) = furthest else { return String::new() };
    let expected = expected.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(" or ");
    match args.get(at) {
        Some(arg) => format!(
            "; the closest is `{}`, where argument {} `{}` does not fit {expected}",
            name(index),
            at + 1,
            clip(&arg.escape_debug().to_string())
        ),
        None => format!("; the closest is `{}`, which goes on with {expected}", name(index)),
    }
}

fn show_command(program: &str, args: &[String]) -> String {
    let mut text = program.escape_debug().to_string();
    for arg in args.iter().take(64) {
        text.push(' ');
        let plain = !arg.is_empty() && arg.bytes().all(|b| b.is_ascii_graphic() && !b"'\"\\".contains(&b));
        if plain {
            text.push_str(arg);
        } else {
            text.push_str(&format!("{arg:?}"));
        }
        if text.len() > 400 {
            break;
        }
    }
    clip(&text)
}

fn show_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { clip(key) } else { format!("{:?}", clip(key)) }
}

/// What came from a plugin, short enough for a message.
fn clip(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
