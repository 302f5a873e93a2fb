//! Planned operations: functions that look at the fleet and give back the steps that would do what they
//! were asked for.
//!
//! ```
//! use windlass_sdk::plan::{Action, Fleet, Plan, Step};
//! use serde_json::json;
//!
//! /// A dataset on each node that works.
//! fn spread(fleet: &Fleet, name: &str) -> Plan {
//!     let mut plan = Plan::new(format!("dataset {name} on all nodes"));
//!     for node in fleet.nodes.iter().filter(|node| node.online && node.flags.is_empty()) {
//!         let make = json!({"name": name, "storage": "compressed", "run": fleet.run});
//!         let make = Action::new(&node.name, "zfs.dataset.create", &make);
//!         let undo = json!({"name": name, "run": fleet.run});
//!         let undo = Action::new(&node.name, "zfs.dataset.remove", &undo);
//!         plan.steps.push(Step::new(&node.name, format!("{name} on {}", node.name), make).undo(undo));
//!     }
//!     plan.notes.push(format!("{} of {} nodes work", plan.steps.len(), fleet.nodes.len()));
//!     plan
//! }
//!
//! let plan = spread(&Fleet { run: "1".into(), nodes: vec![windlass_sdk::plan::test_node("n1")] }, "tank/a");
//! let undo = plan.steps[0].undo.as_ref().unwrap();
//! assert_eq!(undo.args, r#"{"name":"tank/a","run":"1"}"#);
//! ```
//!
//! What a planned operation asks of the host is denied: it runs on the master.

pub use crate::__bindings::windlass::plan::types::{
    Action, Check, Fact, Fleet, Label, Node, OnFailure, Plan, Status, Step,
};

impl Plan {
    /// One without steps and notes, which rolls back when a step fails.
    pub fn new(title: impl Into<String>) -> Plan {
        Plan {
            title: title.into(),
            notes: Vec::new(),
            steps: Vec::new(),
            at_once: None,
            on_failure: OnFailure::RollBack,
        }
    }

    /// Say why it is as it is.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

impl Step {
    /// One that does something, after no other.
    pub fn new(id: impl Into<String>, title: impl Into<String>, act: Action) -> Step {
        Step {
            id: id.into(),
            title: title.into(),
            reason: None,
            after: Vec::new(),
            act,
            undo: None,
            verify: None,
            approval: None,
            retries: 0,
            timeout_ms: None,
        }
    }

    /// The steps that have to be done before.
    #[must_use]
    pub fn after<S: Into<String>>(mut self, steps: impl IntoIterator<Item = S>) -> Step {
        self.after.extend(steps.into_iter().map(Into::into));
        self
    }

    /// What undoes it.
    #[must_use]
    pub fn undo(mut self, action: Action) -> Step {
        self.undo = Some(action);
        self
    }

    /// A look that decides whether it is done: an operation, and CEL over its `output`.
    #[must_use]
    pub fn verify(mut self, action: Action, expect: Option<&str>) -> Step {
        self.verify = Some(Check { action, expect: expect.map(str::to_owned) });
        self
    }

    /// Why it is there, or why it is so.
    #[must_use]
    pub fn reason(mut self, text: impl Into<String>) -> Step {
        self.reason = Some(text.into());
        self
    }

    /// How often it is tried again.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Step {
        self.retries = retries;
        self
    }

    /// The question that somebody has to say yes to before it begins.
    #[must_use]
    pub fn approval(mut self, question: impl Into<String>) -> Step {
        self.approval = Some(question.into());
        self
    }

    /// How long each of its operations may take.
    #[must_use]
    pub fn timeout(mut self, time: std::time::Duration) -> Step {
        self.timeout_ms = Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self
    }
}

impl Action {
    /// An operation of any plugin on a node, with its arguments as an object of JSON.
    ///
    /// # Panics
    /// If they have no form in JSON, as a map with keys that are no texts.
    #[cfg(feature = "json")]
    pub fn new(
        node: impl Into<String>,
        operation: impl Into<String>,
        args: &(impl serde::Serialize + ?Sized),
    ) -> Action {
        let args = match serde_json::to_string(args) {
            Ok(args) => args,
            Err(error) => panic!("arguments have no form in JSON: {error}"),
        };
        Action { node: node.into(), operation: operation.into(), args }
    }
}

impl Fleet {
    /// The node of a name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

impl Node {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|label| label.key == key).map(|label| label.value.as_str())
    }

    /// Whether it has a flag.
    pub fn flag(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| flag == name)
    }

    /// What a watch found last, whether or not it can be used.
    pub fn status(&self, plugin: &str, watch: &str) -> Option<&Status> {
        self.status.iter().find(|status| status.plugin == plugin && status.watch == watch)
    }

    /// A fact, if it is there and of this form.
    #[cfg(feature = "json")]
    pub fn fact<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        let fact = self.facts.iter().find(|fact| fact.name == name)?;
        serde_json::from_str(&fact.value).ok()
    }
}

impl Status {
    /// What its operation gave.
    ///
    /// # Errors
    /// With words, if it did not succeed, is old, or is not of this form.
    #[cfg(feature = "json")]
    pub fn output<T: serde::de::DeserializeOwned>(&self) -> Result<T, String> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        let output = self.output.as_deref().ok_or("there is no result")?;
        serde_json::from_str(output).map_err(|error| {
            format!(
                "the result of watch `{}` of `{}` is not what it should be: {error}",
                self.watch, self.plugin
            )
        })
    }
}

/// A node for tests: online, and nothing else.
#[cfg(not(target_family = "wasm"))]
pub fn test_node(name: &str) -> Node {
    Node {
        id: format!("id-of-{name}"),
        name: name.to_owned(),
        online: true,
        labels: Vec::new(),
        flags: Vec::new(),
        facts: Vec::new(),
        status: Vec::new(),
    }
}
