//! Stored secrets: all but their values.

use super::{
    table::{Grid, Text, Tone},
    text::clean,
    time, value,
};
use crate::output::Look;
use windlass_types::api::secrets::SecretInfo;

/// The list of secrets.
pub fn secrets(secrets: &[SecretInfo], look: &Look) -> String {
    let mut grid = Grid::new(["name", "version", "set", "by", "given by"]);
    for secret in secrets {
        grid.row([
            Text::from(secret.name.as_str()),
            secret.version.to_string().into(),
            time::ago(secret.changed_ms, look).into(),
            clean(&secret.changed_by).into(),
            given_by(secret).into(),
        ]);
    }
    grid.render(look)
}

/// One secret.
pub fn secret(secret: &SecretInfo, look: &Look) -> String {
    let by = |who: &str, at: i64| format!("{} by {}", time::full(at, look), clean(who));
    value::facts(
        [
            ("name", Some(Tone::Strong.text(secret.name.as_str()))),
            ("version", Some(secret.version.to_string().into())),
            ("made", Some(by(&secret.created_by, secret.created_ms).into())),
            ("set", Some(by(&secret.changed_by, secret.changed_ms).into())),
            ("given by", Some(given_by(secret).into())),
        ],
        look,
    )
}

/// The roles with the numbers of their rules.
fn given_by(secret: &SecretInfo) -> String {
    let rules: Vec<String> = secret
        .given_by
        .iter()
        .map(|given| format!("{} (rule {}: {})", given.role, given.rule, clean(&given.operations.join(", "))))
        .collect();
    if rules.is_empty() { "nobody".into() } else { rules.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::look;
    use windlass_types::api::secrets::SecretRule;

    #[test]
    fn a_secret_shows_who_set_it_and_who_may_give_it() {
        let secret = SecretInfo {
            name: "nas-password".parse().unwrap(),
            version: 3,
            created_by: "jane".into(),
            created_ms: 0,
            changed_by: "joe".into(),
            changed_ms: 0,
            given_by: vec![SecretRule {
                role: "night-shift".parse().unwrap(),
                rule: 2,
                operations: vec!["smb.*".into()],
            }],
        };
        let shown = super::secret(&secret, &look(Some(100)));
        for word in ["nas-password", "3", "by jane", "by joe", "night-shift (rule 2: smb.*)"] {
            assert!(shown.contains(word), "{shown}");
        }
        assert!(secrets(&[SecretInfo { given_by: vec![], ..secret }], &look(Some(100))).contains("nobody"));
    }
}
