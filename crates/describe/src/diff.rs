//! How two bundles differ: what an operator wants to see before one takes the other's place.

use std::collections::BTreeMap;
use windlass_bundle::{Manifest, capability};
use windlass_types::{
    api::bundles::{BundleDifference, OperationLine, RetypedOperation},
    shape::Operation,
};

/// How `new` differs from `old`, each a manifest and its operations.
pub fn difference(old: (&Manifest, &[Operation]), new: (&Manifest, &[Operation])) -> BundleDifference {
    let [had, has] = [old, new].map(|(_, operations)| by_name(operations));
    let line = |manifest: &Manifest, operation: &Operation| {
        let name = operation.name.local().to_owned();
        OperationLine {
            effect: manifest.operation(&name).effect,
            signature: operation.signature.brief(),
            name,
        }
    };
    let [asked, asks] = [old, new].map(|(manifest, operations)| {
        capability::capabilities(manifest, operations.iter().map(|operation| operation.name.local()))
    });
    let info = |found: Vec<&capability::Capability>| found.into_iter().map(|found| found.info()).collect();
    BundleDifference {
        added: has
            .iter()
            .filter(|(name, _)| !had.contains_key(*name))
            .map(|(_, operation)| line(new.0, operation))
            .collect(),
        removed: had
            .iter()
            .filter(|(name, _)| !has.contains_key(*name))
            .map(|(_, operation)| line(old.0, operation))
            .collect(),
        retyped: had
            .iter()
            .filter_map(|(name, before)| {
                let after = has.get(name)?;
                (before.signature.digest() != after.signature.digest()).then(|| RetypedOperation {
                    name: (*name).to_owned(),
                    from: before.signature.brief(),
                    to: after.signature.brief(),
                })
            })
            .collect(),
        gained: info(capability::beyond(&asks, &asked)),
        lost: info(capability::beyond(&asked, &asks)),
    }
}

fn by_name(operations: &[Operation]) -> BTreeMap<&str, &Operation> {
    operations.iter().map(|operation| (operation.name.local(), operation)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_types::PluginName;

    fn bundle(body: &str, manifest: &str) -> (Manifest, Vec<Operation>) {
        let dir = tempfile::tempdir().unwrap();
        let wit = format!(
            "package windlass:zfs@0.1.0;\ninterface pool {{\n{body}\n}}\nworld zfs {{ export pool; }}\n"
        );
        std::fs::write(dir.path().join("zfs.wit"), wit).unwrap();
        let plugin: PluginName = "zfs".parse().unwrap();
        let operations = crate::operations(&plugin, &crate::encode_wit(dir.path()).unwrap()).unwrap();
        (Manifest::parse(&format!("name = \"zfs\"\nversion = \"0.1.0\"\n{manifest}")).unwrap(), operations)
    }

    #[test]
    fn a_difference_is_seen_from_both_sides() {
        let old = bundle(
            "%list: func() -> list<string>; drop: func(name: string); scrub: func(pool: string);",
            "[operations.\"pool.list\"]\neffect = \"read\"\n[operations.\"pool.scrub\"]\neffect = \"change\"\n\
             [commands.zpool]\npath = \"/sbin/zpool\"\nallow = [{ effect = \"read\", args = [\"list\", \"{pool?}\"] }]",
        );
        let new = bundle(
            "%list: func(all: bool) -> list<string>; add: func(name: string); scrub: func(pool: string);",
            "[limits]\nmemory = \"128MiB\"\n[operations.\"pool.list\"]\neffect = \"read\"\n\
             [placeholders]\npool = { kind = \"name\", max_length = 9 }\n\
             [commands.zpool]\npath = \"/sbin/zpool\"\nallow = [{ effect = \"read\", args = [\"list\", \"{pool?}\"] }]",
        );
        let both = |old: &(Manifest, Vec<Operation>), new: &(Manifest, Vec<Operation>)| {
            difference((&old.0, &old.1), (&new.0, &new.1))
        };
        let forth = both(&old, &new);
        let names = |lines: &[OperationLine]| {
            lines.iter().map(|line| format!("{} {}", line.name, line.effect)).collect::<Vec<_>>()
        };
        assert_eq!(names(&forth.added), ["pool.add destroy"]);
        assert_eq!(names(&forth.removed), ["pool.drop destroy"]);
        assert_eq!(forth.retyped.len(), 1);
        assert_eq!(forth.retyped[0].from, "func() -> list<string>");
        assert_eq!(forth.retyped[0].to, "func(all: bool) -> list<string>");
        let shown = |found: &[windlass_types::api::bundles::CapabilityInfo]| {
            found.iter().map(|found| format!("{} {}", found.kind, found.text)).collect::<Vec<_>>()
        };
        assert_eq!(
            shown(&forth.gained),
            [
                // The same arguments, of which other ones are accepted now.
                "command zpool list {pool?} (read; {pool} is a name of at most 9 bytes)",
                "limit memory: 128MiB",
                "operation pool.add: destroy",
                // No longer in the manifest, so it counts for more.
                "operation pool.scrub: destroy",
            ]
        );
        assert_eq!(
            shown(&forth.lost),
            ["command zpool list {pool?} (read; {pool} is a word)", "operation pool.drop: destroy"]
        );
        let back = both(&new, &old);
        assert_eq!((back.added.len(), back.removed.len()), (1, 1));
        assert_eq!(shown(&back.lost).len(), 4);
        assert_eq!(both(&old, &old), BundleDifference::default());
    }
}
