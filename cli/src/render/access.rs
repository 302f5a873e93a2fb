//! Users, roles and what they allow.

use super::{
    table::{Grid, Text, Tone},
    text::clean,
    time, value,
};
use crate::output::Look;
use windlass_types::api::access::{RoleInfo, RoleVerdict, User};

fn state(user: &User) -> Text {
    if user.disabled { Tone::Bad.text("disabled") } else { Tone::Good.text("enabled") }
}

/// The list of users.
pub fn users(users: &[User], look: &Look) -> String {
    let mut grid = Grid::new(["name", "role", "state", "tokens", "made"]);
    for user in users {
        grid.row([
            Text::from(user.name.as_str()),
            user.role.as_str().into(),
            state(user),
            user.tokens.to_string().into(),
            time::ago(user.created_ms, look).into(),
        ]);
    }
    grid.render(look)
}

/// One user.
pub fn user(user: &User, look: &Look) -> String {
    value::facts(
        [
            ("name", Some(Tone::Strong.text(user.name.as_str()))),
            ("role", Some(user.role.as_str().into())),
            ("state", Some(state(user))),
            ("tokens", Some(user.tokens.to_string().into())),
            ("made", Some(time::full(user.created_ms, look).into())),
        ],
        look,
    )
}

/// The list of roles.
pub fn roles(roles: &[RoleInfo], look: &Look) -> String {
    let mut grid = Grid::new(["name", "rules", "used by", "made"]);
    for role in roles {
        grid.row([
            Text::from(role.name.as_str()),
            role.rules.len().to_string().into(),
            role.used_by.to_string().into(),
            role.created_ms.map_or_else(|| "always there".into(), |at| time::ago(at, look)).into(),
        ]);
    }
    grid.render(look)
}

/// What a role says to an operation.
pub fn verdict(verdict: &RoleVerdict, look: &Look) -> String {
    let tone = if verdict.allowed { Tone::Good } else { Tone::Bad };
    let mut out = format!("{}\n\n", tone.paint(&clean(&verdict.reason), look));
    let mut grid = Grid::new(["node", "allowed", "by"]);
    for node in &verdict.nodes {
        let name = Text::from(node.name.as_str());
        grid.row(match node.rule {
            Some(rule) => [name, Tone::Good.text("yes"), format!("rule {rule}").into()],
            None => [name, Tone::Bad.text("no"), "-".into()],
        });
    }
    out.push_str(&grid.render(look));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::{self, look};
    use windlass_types::{Effect, api::access::CheckedNode};

    #[test]
    fn views() {
        let all = fixtures::users();
        insta::assert_snapshot!("users", users(&all, &look(None)));
        insta::assert_snapshot!("user", user(&all[1], &look(None)));
        let node = |name: &str, rule| CheckedNode { name: name.parse().unwrap(), rule };
        let refused = RoleVerdict {
            allowed: false,
            reason: "role `night-shift` does not allow `zfs.pool.list` (read) on n2".into(),
            effect: Effect::Read,
            nodes: vec![node("n1", Some(2)), node("n2", None)],
        };
        insta::assert_snapshot!("verdict", verdict(&refused, &look(None)));
        let role = RoleInfo {
            name: "night-shift".parse().unwrap(),
            built_in: false,
            rules: Vec::new(),
            created_ms: Some(fixtures::users()[0].created_ms),
            used_by: 3,
        };
        let always = RoleInfo {
            name: "viewer".parse().unwrap(),
            built_in: true,
            created_ms: None,
            used_by: 0,
            ..role.clone()
        };
        insta::assert_snapshot!("roles", roles(&[role, always], &look(None)));
    }
}
