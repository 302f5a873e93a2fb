//! The roles that are always there allow what they always did.

use super::auth::{RULES, admits};
use crate::access::Role;
use std::collections::BTreeMap;
use windlass_types::api::Role as Level;

/// Every route with the least role, as the table stood before there were others; none takes no token.
/// What is new since stands at the end.
const LEAST: &[(&str, &str, Option<Level>)] = {
    use Level::{Admin, Operator, Viewer};
    &[
        ("GET", "/healthz", None),
        ("GET", "/readyz", None),
        ("GET", "/metrics", Some(Viewer)),
        ("GET", "/api/v1/openapi.json", Some(Viewer)),
        ("GET", "/api/v1/whoami", Some(Viewer)),
        ("GET", "/api/v1/nodes", Some(Viewer)),
        ("GET", "/api/v1/nodes/{node}", Some(Viewer)),
        ("POST", "/api/v1/nodes/{node}/accept", Some(Admin)),
        ("POST", "/api/v1/nodes/{node}/reject", Some(Admin)),
        ("POST", "/api/v1/nodes/{node}/revoke", Some(Admin)),
        ("DELETE", "/api/v1/nodes/{node}", Some(Admin)),
        ("PATCH", "/api/v1/nodes/{node}", Some(Operator)),
        ("GET", "/api/v1/join-tokens", Some(Admin)),
        ("POST", "/api/v1/join-tokens", Some(Admin)),
        ("DELETE", "/api/v1/join-tokens/{id}", Some(Admin)),
        ("GET", "/api/v1/operations", Some(Viewer)),
        ("GET", "/api/v1/operations/{name}", Some(Viewer)),
        ("POST", "/api/v1/targets/resolve", Some(Viewer)),
        ("POST", "/api/v1/jobs", Some(Operator)),
        ("GET", "/api/v1/jobs", Some(Viewer)),
        ("GET", "/api/v1/jobs/{id}", Some(Viewer)),
        ("GET", "/api/v1/jobs/{id}/nodes", Some(Viewer)),
        ("GET", "/api/v1/jobs/{id}/events", Some(Viewer)),
        ("POST", "/api/v1/jobs/{id}/cancel", Some(Operator)),
        ("GET", "/api/v1/jobs/{id}/nodes/{node}/trace", Some(Viewer)),
        ("GET", "/api/v1/bundles", Some(Viewer)),
        ("POST", "/api/v1/bundles", Some(Admin)),
        ("GET", "/api/v1/bundles/difference", Some(Viewer)),
        ("GET", "/api/v1/bundles/{bundle}", Some(Viewer)),
        ("DELETE", "/api/v1/bundles/{bundle}", Some(Admin)),
        ("GET", "/api/v1/bundles/{bundle}/package", Some(Viewer)),
        ("GET", "/api/v1/plugins", Some(Viewer)),
        ("GET", "/api/v1/plugins/{name}", Some(Viewer)),
        ("DELETE", "/api/v1/plugins/{name}", Some(Admin)),
        ("GET", "/api/v1/plugins/{name}/events", Some(Viewer)),
        ("POST", "/api/v1/plugins/{name}/approve", Some(Admin)),
        ("POST", "/api/v1/plugins/{name}/pin", Some(Admin)),
        ("POST", "/api/v1/plugins/{name}/unpin", Some(Admin)),
        ("POST", "/api/v1/plugins/{name}/rollback", Some(Admin)),
        ("GET", "/api/v1/deployments", Some(Viewer)),
        ("POST", "/api/v1/deployments", Some(Admin)),
        ("GET", "/api/v1/deployments/{id}", Some(Viewer)),
        ("POST", "/api/v1/deployments/{id}/pause", Some(Admin)),
        ("POST", "/api/v1/deployments/{id}/resume", Some(Admin)),
        ("POST", "/api/v1/deployments/{id}/abort", Some(Admin)),
        ("POST", "/api/v1/deployments/{id}/rollback", Some(Admin)),
        ("GET", "/api/v1/events", Some(Viewer)),
        ("GET", "/api/v1/schedules", Some(Viewer)),
        ("POST", "/api/v1/schedules", Some(Operator)),
        ("GET", "/api/v1/schedules/{name}", Some(Viewer)),
        ("DELETE", "/api/v1/schedules/{name}", Some(Operator)),
        ("POST", "/api/v1/schedules/{name}/pause", Some(Operator)),
        ("POST", "/api/v1/schedules/{name}/resume", Some(Operator)),
        ("POST", "/api/v1/schedules/{name}/run", Some(Operator)),
        ("GET", "/api/v1/schedules/{name}/runs", Some(Viewer)),
        ("GET", "/api/v1/schedules/{name}/next", Some(Viewer)),
        ("GET", "/api/v1/tokens", Some(Admin)),
        ("POST", "/api/v1/tokens", Some(Admin)),
        ("DELETE", "/api/v1/tokens/{id}", Some(Admin)),
        ("GET", "/api/v1/audit", Some(Admin)),
        ("GET", "/api/v1/audit/verify", Some(Admin)),
        ("GET", "/api/v1/users", Some(Admin)),
        ("POST", "/api/v1/users", Some(Admin)),
        ("GET", "/api/v1/users/{name}", Some(Admin)),
        ("PATCH", "/api/v1/users/{name}", Some(Admin)),
        ("DELETE", "/api/v1/users/{name}", Some(Admin)),
        ("GET", "/api/v1/roles", Some(Admin)),
        ("GET", "/api/v1/roles/{name}", Some(Admin)),
        ("PUT", "/api/v1/roles/{name}", Some(Admin)),
        ("DELETE", "/api/v1/roles/{name}", Some(Admin)),
        ("POST", "/api/v1/roles/{name}/check", Some(Admin)),
        ("GET", "/api/v1/rules", Some(Admin)),
        ("POST", "/api/v1/rules", Some(Admin)),
        ("POST", "/api/v1/rules/try", Some(Admin)),
        ("GET", "/api/v1/rules/{name}", Some(Admin)),
        ("DELETE", "/api/v1/rules/{name}", Some(Admin)),
        ("POST", "/api/v1/rules/{name}/pause", Some(Admin)),
        ("POST", "/api/v1/rules/{name}/resume", Some(Admin)),
        ("GET", "/api/v1/rules/{name}/firings", Some(Admin)),
        ("GET", "/api/v1/jobs/{id}/nodes/{node}/output", Some(Viewer)),
        ("GET", "/api/v1/status", Some(Viewer)),
        ("GET", "/api/v1/nodes/{node}/status", Some(Viewer)),
        ("GET", "/api/v1/secrets", Some(Admin)),
        ("GET", "/api/v1/secrets/{name}", Some(Admin)),
        ("PUT", "/api/v1/secrets/{name}", Some(Admin)),
        ("DELETE", "/api/v1/secrets/{name}", Some(Admin)),
        ("GET", "/api/v1/plans", Some(Viewer)),
        ("POST", "/api/v1/plans", Some(Operator)),
        ("POST", "/api/v1/plans/check", Some(Operator)),
        ("GET", "/api/v1/plans/{id}", Some(Viewer)),
        ("POST", "/api/v1/plans/{id}/apply", Some(Operator)),
        ("GET", "/api/v1/runs", Some(Viewer)),
        ("GET", "/api/v1/runs/{id}", Some(Viewer)),
        ("GET", "/api/v1/runs/{id}/events", Some(Viewer)),
        ("POST", "/api/v1/runs/{id}/pause", Some(Operator)),
        ("POST", "/api/v1/runs/{id}/resume", Some(Operator)),
        ("POST", "/api/v1/runs/{id}/cancel", Some(Operator)),
        ("POST", "/api/v1/runs/{id}/abandon", Some(Operator)),
        ("POST", "/api/v1/runs/{id}/steps/{step}/approve", Some(Operator)),
        ("POST", "/api/v1/runs/{id}/steps/{step}/retry", Some(Operator)),
        ("POST", "/api/v1/runs/{id}/steps/{step}/skip", Some(Operator)),
    ]
};

/// The least role of a route.
pub(super) fn least(method: &str, route: &str) -> Option<Level> {
    LEAST.iter().find(|(known, path, _)| *known == method && *path == route).and_then(|(_, _, least)| *least)
}

#[test]
fn the_roles_that_are_always_there_allow_what_they_always_did() {
    let now: BTreeMap<(String, String), [bool; 3]> = RULES
        .iter()
        .map(|(method, path, rule)| {
            let allowed = Level::ALL.map(|level| admits(*rule, &Role::built_in(level)).is_ok());
            ((method.to_string(), (*path).to_owned()), allowed)
        })
        .collect();
    let before: BTreeMap<(String, String), [bool; 3]> = LEAST
        .iter()
        .map(|(method, path, least)| {
            let allowed = Level::ALL.map(|level| least.is_none_or(|least| level >= least));
            (((*method).to_owned(), (*path).to_owned()), allowed)
        })
        .collect();
    assert_eq!(now, before);
}
