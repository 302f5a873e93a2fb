//! Matching by moving a set of positions over the arguments.

use super::{Element, Mismatch, Part, Times, Token};

/// A rule as a small program: each instruction consumes one argument, forks, or ends.
#[derive(Debug, Clone)]
pub(super) struct Program {
    code: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    /// The argument must fit; then go on with the next step.
    Consume(Token),
    /// Go on at both.
    Fork(usize, usize),
    /// The arguments must end here.
    End,
}

impl Program {
    pub(super) fn compile(elements: &[Element]) -> Program {
        let mut program = Program { code: Vec::new() };
        for element in elements {
            match element {
                Element::Token(token) => program.token(token),
                // fork(tokens…, after); for a repeated group the tokens end with a fork back.
                Element::Group { tokens, repeated } => {
                    let start = program.hole();
                    for token in tokens {
                        program.token(token);
                    }
                    if *repeated {
                        let end = program.code.len();
                        program.code.push(Step::Fork(start, end + 1));
                    }
                    program.fill(start);
                }
            }
        }
        program.code.push(Step::End);
        program
    }

    fn token(&mut self, token: &Token) {
        match token.times {
            Times::Once => self.code.push(Step::Consume(token.clone())),
            Times::Optional => {
                let start = self.hole();
                self.code.push(Step::Consume(token.clone()));
                self.fill(start);
            }
            Times::AtLeastOnce | Times::Any => {
                let start = (token.times == Times::Any).then(|| self.hole());
                let consume = self.code.len();
                self.code.push(Step::Consume(token.clone()));
                self.code.push(Step::Fork(consume, consume + 2));
                if let Some(start) = start {
                    self.fill(start);
                }
            }
        }
    }

    /// A fork into the next step whose other target is not known yet.
    fn hole(&mut self) -> usize {
        let at = self.code.len();
        self.code.push(Step::Fork(at + 1, usize::MAX));
        at
    }

    /// Let the other target of a [`hole`](Self::hole) be what comes next.
    fn fill(&mut self, at: usize) {
        let next = self.code.len();
        self.code[at] = Step::Fork(at + 1, next);
    }

    pub(super) fn run<S: AsRef<str>>(&self, args: &[S]) -> Result<(), Mismatch> {
        let mut now = Set::new(self.code.len());
        let mut next = Set::new(self.code.len());
        self.reach(0, &mut now);
        for (at, arg) in args.iter().enumerate() {
            for &step in &now.order {
                if let Step::Consume(token) = &self.code[step]
                    && token.accepts(arg.as_ref())
                {
                    self.reach(step + 1, &mut next);
                }
            }
            if next.order.is_empty() {
                return Err(Mismatch { at, expected: self.expected(&now) });
            }
            std::mem::swap(&mut now, &mut next);
            next.clear();
        }
        if now.order.iter().any(|&step| matches!(self.code[step], Step::End)) {
            Ok(())
        } else {
            Err(Mismatch { at: args.len(), expected: self.expected(&now) })
        }
    }

    /// Add a step and all that forks lead to from there. Each step is added once, so forks that
    /// lead back (a repeated group of optional tokens) end.
    fn reach(&self, from: usize, set: &mut Set) {
        let mut todo = vec![from];
        while let Some(step) = todo.pop() {
            if set.add(step)
                && let Step::Fork(first, second) = self.code[step]
            {
                todo.push(second);
                todo.push(first);
            }
        }
    }

    fn expected(&self, set: &Set) -> Vec<String> {
        let mut expected: Vec<String> = Vec::new();
        for &step in &set.order {
            let text = match &self.code[step] {
                Step::Consume(token) => &token.text,
                Step::End => "end",
                Step::Fork(..) => continue,
            };
            if !expected.iter().any(|known| known == text) {
                expected.push(text.to_owned());
            }
        }
        expected
    }
}

/// A set of steps that remembers the order in which they came.
struct Set {
    has: Vec<bool>,
    order: Vec<usize>,
}

impl Set {
    fn new(len: usize) -> Set {
        Set { has: vec![false; len], order: Vec::new() }
    }
    fn add(&mut self, step: usize) -> bool {
        let new = !std::mem::replace(&mut self.has[step], true);
        if new {
            self.order.push(step);
        }
        new
    }
    fn clear(&mut self) {
        for step in self.order.drain(..) {
            self.has[step] = false;
        }
    }
}

impl Token {
    pub(super) fn accepts(&self, arg: &str) -> bool {
        self.alternatives.iter().any(|parts| accepts(parts, arg))
    }
}

fn accepts(parts: &[Part], mut rest: &str) -> bool {
    let mut parts = parts.iter().peekable();
    while let Some(part) = parts.next() {
        match part {
            Part::Literal(literal) => match rest.strip_prefix(literal.as_str()) {
                Some(after) => rest = after,
                None => return false,
            },
            Part::Placeholder { accepts, .. } => {
                // The next part, if there is one, is a literal; the last one ends the argument.
                let end = match parts.next() {
                    None => Some((rest.len(), rest.len())),
                    Some(Part::Literal(literal)) if parts.peek().is_none() => {
                        rest.ends_with(literal.as_str()).then(|| (rest.len() - literal.len(), rest.len()))
                    }
                    Some(Part::Literal(literal)) => {
                        rest.find(literal.as_str()).map(|at| (at, at + literal.len()))
                    }
                    Some(Part::Placeholder { .. }) => None,
                };
                let Some((end, after)) = end else { return false };
                if !accepts.accepts(&rest[..end]) {
                    return false;
                }
                rest = &rest[after..];
            }
        }
    }
    rest.is_empty()
}
