//! The order of steps, drawn as text.
//!
//! Each step stands once: below the one it comes after, of several the one that is drawn last. The only one
//! after another stays in its column, so that a long chain does not wander off to the right.

use windlass_types::plans::Plan;

/// A line of the drawing.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Position of the step in the plan.
    pub step: usize,
    /// What stands before its name.
    pub lead: String,
    /// Positions of the others it comes after.
    pub also: Vec<usize>,
}

/// Draw a plan.
pub fn lines(plan: &Plan) -> Vec<Line> {
    // The master has checked that there is an order; without one they are told as they come.
    let before: Vec<Vec<usize>> = match plan.order() {
        Ok(order) => order.iter().map(|all| all.iter().map(|step| *step as usize).collect()).collect(),
        Err(_) => vec![Vec::new(); plan.steps.len()],
    };
    let depth = depths(&before);
    let mut below: Vec<Vec<usize>> = vec![Vec::new(); before.len()];
    let mut above = vec![None; before.len()];
    let mut first = Vec::new();
    for (step, before) in before.iter().enumerate() {
        above[step] = before.iter().copied().max_by_key(|before| (depth[*before], *before));
        match above[step] {
            Some(above) => below[above].push(step),
            None => first.push(step),
        }
    }
    let mut lines = Vec::with_capacity(before.len());
    // From the last to the first, with what stands before each, and before what is below it.
    let mut open: Vec<(usize, String, String)> = Vec::new();
    push(&mut open, &first, "");
    while let Some((step, lead, under)) = open.pop() {
        let also = before[step].iter().copied().filter(|before| above[step] != Some(*before)).collect();
        lines.push(Line { step, lead, also });
        push(&mut open, &below[step], &under);
    }
    lines
}

fn push(open: &mut Vec<(usize, String, String)>, steps: &[usize], under: &str) {
    if let [only] = steps {
        return open.push((*only, under.to_owned(), under.to_owned()));
    }
    for (place, step) in steps.iter().enumerate().rev() {
        let (lead, then) = if place + 1 == steps.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        open.push((*step, format!("{under}{lead}"), format!("{under}{then}")));
    }
}

/// How many steps are in front of each at most.
fn depths(before: &[Vec<usize>]) -> Vec<usize> {
    let mut behind = vec![Vec::new(); before.len()];
    let mut open: Vec<usize> = before.iter().map(Vec::len).collect();
    for (step, before) in before.iter().enumerate() {
        for before in before {
            behind[*before].push(step);
        }
    }
    let mut depth = vec![0; before.len()];
    let mut ready: Vec<usize> = (0..before.len()).filter(|step| open[*step] == 0).collect();
    while let Some(step) = ready.pop() {
        for next in &behind[step] {
            depth[*next] = depth[*next].max(depth[step] + 1);
            open[*next] -= 1;
            if open[*next] == 0 {
                ready.push(*next);
            }
        }
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn drawn(steps: &[(&str, &[&str])]) -> String {
        let steps: Vec<_> = steps
            .iter()
            .map(|(id, after)| {
                let act = json!({ "node": "n1", "operation": "a.b.c" });
                json!({ "id": id, "title": "x", "after": after, "act": act })
            })
            .collect();
        let plan: Plan = serde_json::from_value(json!({ "title": "x", "steps": steps })).unwrap();
        let name = |step: &usize| plan.steps[*step].id.to_string();
        lines(&plan)
            .iter()
            .map(|line| {
                let also: Vec<String> = line.also.iter().map(name).collect();
                let also = if also.is_empty() { String::new() } else { format!(" (+{})", also.join(",")) };
                format!("{}{}{also}\n", line.lead, name(&line.step))
            })
            .collect()
    }

    #[test]
    fn steps_stand_below_what_they_come_after() {
        assert_eq!(drawn(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]), "a\nb\nc\n");
        assert_eq!(
            drawn(&[
                ("a", &[]),
                ("b", &["a"]),
                ("c", &["a"]),
                ("d", &["b"]),
                ("e", &["c", "d"]),
                ("f", &["e"]),
                ("g", &["e", "a"]),
            ]),
            "a\n├─ b\n│  d\n│  e (+c)\n│  ├─ f\n│  └─ g (+a)\n└─ c\n"
        );
        assert_eq!(drawn(&[("a", &[]), ("b", &[])]), "├─ a\n└─ b\n");
    }

    #[test]
    fn a_long_chain_is_drawn_in_no_time() {
        let names: Vec<String> = (0..10_000).map(|number| format!("s{number}")).collect();
        let before: Vec<Vec<&str>> = (0..10_000_usize)
            .map(|n| n.checked_sub(1).map(|n| names[n].as_str()).into_iter().collect())
            .collect();
        let steps: Vec<(&str, &[&str])> =
            names.iter().zip(&before).map(|(name, before)| (name.as_str(), before.as_slice())).collect();
        assert_eq!(drawn(&steps).lines().count(), 10_000);
    }
}
