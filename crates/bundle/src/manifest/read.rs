//! From the text of a manifest to its types.

use super::{
    Access, FileRule, Limits, Manifest, ManifestError, OperationPolicy, ProbeName, Program, Rule,
    SecretPlaces, bounds, lock_params, watches,
};
use crate::{
    document::{Table, Value},
    grammar::{
        CharSet, DEFAULT_MAX_LENGTH, Grammar, KINDS, Kind, MAX_ARGS_BYTES, MAX_ELEMENTS, Placeholder,
        Placeholders, is_name, is_placeholder_name,
    },
    path::AbsolutePath,
    pattern::PathPattern,
    units,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};
use windlass_types::{Effect, OperationName, PluginName, json::nearest};

const EFFECTS: [(&str, Effect); 3] =
    [("read", Effect::Read), ("change", Effect::Change), ("destroy", Effect::Destroy)];

/// Bounds of the limits: below, no component runs; above, one plugin could take a node.
const MEMORY: RangeInclusive<u64> = (1 << 20)..=(4 << 30);
const CPU: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
const OUTPUT: RangeInclusive<u64> = 1024..=(256 << 20);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(7 * 24 * 3600);

pub(super) fn manifest(mut top: Table<'_>) -> Result<Manifest, ManifestError> {
    let name: PluginName = top.require("name")?.parsed(str::parse)?;
    let version = top.require("version")?.parsed(str::parse)?;
    let description = match top.take("description") {
        Some(value) => value.parsed(|text| line(text, 400))?,
        None => String::new(),
    };
    let limits = top.take("limits").map(limits).transpose()?.unwrap_or_default();
    let declared = top.take("placeholders").map(placeholders).transpose()?.unwrap_or_default();
    let commands =
        top.take("commands").map(|value| commands(value, &declared)).transpose()?.unwrap_or_default();
    let files = top.take("files").map(files).transpose()?.unwrap_or_default();
    let probes = top.take("probes").map(probes).transpose()?.unwrap_or_default();
    let state = top.take("state").map(|value| value.bool()).transpose()?.unwrap_or(false);
    let operations =
        top.take("operations").map(|value| operations(value, &name)).transpose()?.unwrap_or_default();
    let watches = top
        .take("watches")
        .map(|value| watches::watches(value, &name, &operations))
        .transpose()?
        .unwrap_or_default();
    let alerts =
        top.take("alerts").map(|value| watches::alerts(value, &watches)).transpose()?.unwrap_or_default();
    top.finish()?;
    Ok(Manifest {
        name,
        version,
        description,
        limits,
        commands,
        files,
        probes,
        state,
        operations,
        watches,
        alerts,
    })
}

pub(super) fn line(text: &str, max: usize) -> Result<String, String> {
    if text.contains(char::is_control) {
        return Err("expected one line without control characters".into());
    }
    if text.chars().count() > max {
        return Err(format!("is longer than {max} characters"));
    }
    Ok(text.to_owned())
}

fn limits(value: Value<'_>) -> Result<Limits, ManifestError> {
    let mut table = value.into_table()?;
    let mut limits = Limits::default();
    let size = |table: &mut Table<'_>, key, range: &RangeInclusive<u64>, limit: &mut u64| {
        let Some(value) = table.take(key) else { return Ok(()) };
        *limit = value.parsed(|text| {
            let bytes = units::size(text)?;
            within(bytes, range, text, units::show_size)
        })?;
        Ok(())
    };
    size(&mut table, "memory", &MEMORY, &mut limits.memory_bytes)?;
    size(&mut table, "output", &OUTPUT, &mut limits.output_bytes)?;
    size(&mut table, "command_output", &OUTPUT, &mut limits.command_output_bytes)?;
    if let Some(value) = table.take("cpu") {
        let cpu = value.parsed(|text| within(units::duration(text)?, &CPU, text, units::show_duration))?;
        limits.cpu_ms = u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX);
    }
    if let Some(value) = table.take("processes") {
        limits.processes = u32::try_from(value.integer(1, 16_384)?).unwrap_or(16_384);
    }
    if let Some(value) = table.take("concurrency") {
        limits.concurrency = u32::try_from(value.integer(1, 1024)?).unwrap_or(1024);
    }
    table.finish()?;
    Ok(limits)
}

pub(super) fn within<T: PartialOrd + Copy>(
    value: T,
    range: &RangeInclusive<T>,
    text: &str,
    show: impl Fn(T) -> String,
) -> Result<T, String> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(format!("`{text}` is out of range: from {} to {}", show(*range.start()), show(*range.end())))
}

/// A placeholder with where it was declared, so that one that nothing uses can be reported.
type Declared<'t> = BTreeMap<String, (Arc<Placeholder>, Value<'t>)>;

fn placeholders(value: Value<'_>) -> Result<Declared<'_>, ManifestError> {
    let mut declared = Declared::new();
    for (name, value) in value.into_table()?.into_entries(bounds::PLACEHOLDERS)? {
        if !is_placeholder_name(&name) {
            return Err(value.place().error(
                "is not a name for a placeholder: expected a lower-case letter, then letters, digits, `_` and `-`",
            ));
        }
        let placeholder = placeholder(value.clone())?;
        declared.insert(name, (Arc::new(placeholder), value));
    }
    Ok(declared)
}

fn placeholder(value: Value<'_>) -> Result<Placeholder, ManifestError> {
    if value.as_str().is_some() {
        return kind(&value).map(Placeholder::from);
    }
    let mut table = value.into_table()?;
    let forms = ["kind", "one_of", "chars"].map(|key| table.take(key));
    let mut placeholder = match forms {
        [Some(value), None, None] => Placeholder::from(kind(&value)?),
        [None, Some(value), None] => Kind::OneOf(strings(value, |_| Ok(()))?).into(),
        [None, None, Some(value)] => Kind::Chars(value.parsed(CharSet::parse)?).into(),
        _ => return Err(table.place().error("expected exactly one of `kind`, `one_of` and `chars`")),
    };
    match &mut placeholder.kind {
        Kind::Path { under } => {
            if let Some(value) = table.take("under") {
                for value in value.into_items_or_one(bounds::CHOICES)? {
                    under.push(value.parsed(AbsolutePath::parse)?);
                }
            }
        }
        Kind::Number { min, max } => {
            if let Some(value) = table.take("min") {
                *min = value.integer(0, i64::MAX as u64)?;
            }
            if let Some(value) = table.take("max") {
                *max = value.integer(*min, i64::MAX as u64)?;
            }
        }
        Kind::Property { keys } => {
            if let Some(value) = table.take("keys") {
                *keys = strings(value, |key| {
                    if is_name(key) {
                        Ok(())
                    } else {
                        Err(format!("`{key}` can not be the key of a property"))
                    }
                })?;
            }
        }
        Kind::List { items } => {
            if let Some(value) = table.take("items") {
                *items = strings(value, |item| {
                    let fits = !item.contains(',') && Placeholder::from(Kind::Word).accepts(item);
                    if fits { Ok(()) } else { Err(format!("`{item}` can not be an item of a list")) }
                })?;
            }
        }
        Kind::Word | Kind::Name | Kind::Text | Kind::Any | Kind::OneOf(_) | Kind::Chars(_) => {}
    }
    if let Some(value) = table.take("max_length") {
        let max = value.integer(1, MAX_ARGS_BYTES as u64)?;
        placeholder.max_length = usize::try_from(max).unwrap_or(DEFAULT_MAX_LENGTH);
    }
    if let Some(value) = table.take("leading_dash") {
        placeholder.leading_dash = value.bool()?;
    }
    if let Kind::OneOf(values) = &placeholder.kind
        && let Some(dead) = values.iter().find(|value| !placeholder.accepts(value))
    {
        return Err(table.place().error(format!(
            "`{dead}` in `one_of` can never match: it is empty, longer than `max_length`, \
             or begins with `-` without `leading_dash = true`"
        )));
    }
    table.finish()?;
    Ok(placeholder)
}

fn kind(value: &Value<'_>) -> Result<Kind, ManifestError> {
    let words = KINDS.map(|kind| (kind, kind));
    let name = value.one_of("a kind of placeholder", &words)?;
    Kind::named(name).ok_or_else(|| value.place().error("is not a kind of placeholder"))
}

/// A list of strings, not empty, none twice.
fn strings(
    value: Value<'_>,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<Vec<String>, ManifestError> {
    let place = value.place().clone();
    let mut strings: Vec<String> = Vec::new();
    for value in value.into_items(bounds::CHOICES)? {
        let text = value.parsed(|text| check(text).map(|()| text.to_owned()))?;
        if strings.contains(&text) {
            return Err(value.place().error(format!("`{text}` is there twice")));
        }
        strings.push(text);
    }
    if strings.is_empty() {
        return Err(place.error("is empty, so nothing could match"));
    }
    Ok(strings)
}

fn commands(value: Value<'_>, declared: &Declared<'_>) -> Result<BTreeMap<String, Program>, ManifestError> {
    let placeholders: Placeholders =
        declared.iter().map(|(name, (accepts, _))| (name.clone(), Arc::clone(accepts))).collect();
    let mut used = BTreeSet::new();
    let mut commands = BTreeMap::new();
    let (mut rules, mut tokens) = (0, 0);
    let place = value.place().clone();
    for (name, value) in value.into_table()?.into_entries(bounds::PROGRAMS)? {
        if !is_name(&name) || name.len() > 64 {
            return Err(value
                .place()
                .error("is not a name for a program: expected letters, digits and `_ . : -`"));
        }
        let program = program(value, &placeholders)?;
        rules += program.allow.len();
        tokens += program.allow.iter().map(|rule| rule.grammar.size()).sum::<usize>();
        used.extend(program.allow.iter().flat_map(|rule| rule.grammar.placeholders()).map(str::to_owned));
        commands.insert(name, program);
        for (what, count, max) in
            [("rules", rules, bounds::RULES), ("tokens and alternatives", tokens, bounds::TOKENS)]
        {
            if count > max {
                return Err(place.error(format!("all rules together have more than {max} {what}")));
            }
        }
    }
    if let Some((name, (_, value))) = declared.iter().find(|(name, _)| !used.contains(*name)) {
        let mut error = value.place().error("no rule uses this placeholder");
        error.hint =
            nearest(name, used.iter().filter(|used| !declared.contains_key(*used)).map(String::as_str));
        return Err(error);
    }
    Ok(commands)
}

fn program(value: Value<'_>, placeholders: &Placeholders) -> Result<Program, ManifestError> {
    let mut table = value.into_table()?;
    let path = table.require("path")?;
    let mut paths = Vec::new();
    let place = path.place().clone();
    for value in path.into_items_or_one(bounds::PATHS)? {
        paths.push(value.parsed(AbsolutePath::parse)?);
    }
    if paths.is_empty() {
        return Err(place.error("is empty: name at least one absolute path"));
    }
    let allow = table.require("allow")?;
    let place = allow.place().clone();
    let rules = allow
        .into_items(bounds::RULES)?
        .into_iter()
        .map(|value| rule(value, placeholders))
        .collect::<Result<Vec<_>, _>>()?;
    if rules.is_empty() {
        return Err(place.error("is empty, so the program could never run"));
    }
    table.finish()?;
    Ok(Program::new(paths, rules))
}

fn rule(value: Value<'_>, placeholders: &Placeholders) -> Result<Rule, ManifestError> {
    let mut table = value.into_table()?;
    let effect = effect(&mut table)?.unwrap_or(Effect::Destroy);
    let items = table.require("args")?.into_items(MAX_ELEMENTS)?;
    let args = items.iter().map(|item| item.string().map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
    let grammar = Grammar::parse(&args, placeholders)
        .map_err(|error| items[error.element].place().error(error.message))?;
    let secrets = table.take("secrets").map(secret_places).transpose()?.unwrap_or_default();
    table.finish()?;
    Ok(Rule { effect, args, grammar, secrets })
}

fn secret_places(value: Value<'_>) -> Result<SecretPlaces, ManifestError> {
    let mut places = SecretPlaces::default();
    for value in value.into_items(bounds::SECRET_PLACES)? {
        match value.string()? {
            SecretPlaces::STDIN => places.stdin = true,
            name => {
                variable(name).map_err(|why| value.place().error(why))?;
                places.variables.insert(name.to_owned());
            }
        }
    }
    Ok(places)
}

/// Whether the environment of a program may hold a secret of this name. Variables that say what code
/// runs, and how texts are read, are the host's.
fn variable(name: &str) -> Result<(), String> {
    let letters = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    if !name.starts_with(|c: char| c.is_ascii_uppercase()) || name.len() > 64 || !name.bytes().all(letters) {
        return Err(
            "is no place for a secret: expected `stdin` or the name of a variable in capital letters".into(),
        );
    }
    let kept = ["PATH", "IFS", "ENV", "BASH_ENV", "HOME", "SHELL", "TMPDIR"];
    let families = ["LC_", "LD_", "GCONV_", "MALLOC_", "PYTHON", "PERL", "GLIBC_"];
    if kept.contains(&name) || families.iter().any(|family| name.starts_with(family)) {
        return Err(format!("`{name}` says how programs run: it is no place for a secret"));
    }
    Ok(())
}

fn effect(table: &mut Table<'_>) -> Result<Option<Effect>, ManifestError> {
    table.take("effect").map(|value| value.one_of("an effect", &EFFECTS)).transpose()
}

fn files(value: Value<'_>) -> Result<Vec<FileRule>, ManifestError> {
    value.into_items(bounds::FILES)?.into_iter().map(file).collect()
}

fn file(value: Value<'_>) -> Result<FileRule, ManifestError> {
    let mut table = value.into_table()?;
    let path = table.require("path")?.parsed(PathPattern::parse)?;
    let access =
        table.require("access")?.one_of("an access", &[("read", Access::Read), ("write", Access::Write)])?;
    let effect = match (access, effect(&mut table)?) {
        (Access::Read, None | Some(Effect::Read)) => Effect::Read,
        (Access::Read, Some(_)) => {
            return Err(table.place().error("reading a file has the effect `read`, and no other"));
        }
        (Access::Write, Some(Effect::Read)) => {
            return Err(table
                .place()
                .error("writing a file can not have the effect `read`: say `change` or `destroy`"));
        }
        (Access::Write, effect) => effect.unwrap_or(Effect::Destroy),
    };
    table.finish()?;
    Ok(FileRule { path, access, effect })
}

fn probes(value: Value<'_>) -> Result<BTreeSet<ProbeName>, ManifestError> {
    value
        .into_items(ProbeName::ALL.len())?
        .iter()
        .map(|value| value.one_of("a probe", &ProbeName::ALL))
        .collect()
}

fn operations(
    value: Value<'_>,
    plugin: &PluginName,
) -> Result<BTreeMap<String, OperationPolicy>, ManifestError> {
    let mut operations = BTreeMap::new();
    for (name, value) in value.into_table()?.into_entries(bounds::OPERATIONS)? {
        if !is_operation(plugin, &name) {
            let mut error = value.place().error(NOT_AN_OPERATION);
            // `[operations.pool.list]` is a table in a table.
            if !name.contains('.') {
                error.hint = Some(format!("write the name in quotes: `[operations.\"{name}.…\"]`"));
            }
            return Err(error);
        }
        let policy = operation(value, plugin, &name)?;
        operations.insert(name, policy);
    }
    Ok(operations)
}

pub(super) const NOT_AN_OPERATION: &str =
    "is not an operation: expected `interface.function`, such as `pool.list`";

/// Whether this is the name of an operation without its plugin.
pub(super) fn is_operation(plugin: &PluginName, local: &str) -> bool {
    format!("{plugin}.{local}").parse::<OperationName>().is_ok()
}

fn operation(value: Value<'_>, plugin: &PluginName, local: &str) -> Result<OperationPolicy, ManifestError> {
    let mut table = value.into_table()?;
    let mut policy = OperationPolicy::default();
    if let Some(effect) = effect(&mut table)? {
        policy.effect = effect;
    }
    if let Some(value) = table.take("timeout") {
        policy.timeout =
            value.parsed(|text| within(units::duration(text)?, &TIMEOUT, text, units::show_duration))?;
    }
    if let Some(value) = table.take("idempotent") {
        policy.idempotent = value.bool()?;
    }
    if let Some(value) = table.take("locks") {
        for value in value.into_items(bounds::LOCKS)? {
            policy.locks.push(value.parsed(|text| lock_params(text).map(|_| text.to_owned()))?);
        }
    }
    if let Some(value) = table.take("undo") {
        policy.undo = Some(value.parsed(|text| match () {
            () if !is_operation(plugin, text) => Err(format!("`{text}` {NOT_AN_OPERATION}")),
            () if text == local => Err("an operation can not be its own undo".into()),
            () if policy.effect == Effect::Read => {
                Err("the effect of the operation is `read`, so there is nothing to undo".into())
            }
            () => Ok(text.to_owned()),
        })?);
    }
    table.finish()?;
    Ok(policy)
}
