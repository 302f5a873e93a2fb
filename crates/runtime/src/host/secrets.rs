//! `windlass:host/secrets`.

use super::{
    State,
    api::windlass::host::{
        commands::{Command, Error, Output},
        secrets as wit,
    },
    commands::Given,
};
use crate::tape::{
    calls::{Piece, SecretsRun, Variable},
    text::Bytes,
};
use windlass_types::Denial;
use zeroize::Zeroizing;

/// Parts and variables of one program at most.
const MAX_GIVEN: usize = 64;

impl wit::Host for State {
    async fn run(
        &mut self,
        command: Command,
        stdin: Vec<wit::Piece>,
        variables: Vec<wit::Variable>,
    ) -> wasmtime::Result<Result<Output, Error>> {
        if command.stdin.is_some() {
            return Ok(Err(Error::Other(
                "`stdin` of the command has to be none: the list of pieces is what the program reads".into(),
            )));
        }
        if stdin.len() > MAX_GIVEN || variables.len() > MAX_GIVEN {
            return Ok(Err(Error::Other(format!("more than {MAX_GIVEN} pieces or variables"))));
        }
        let call = |command: &Command| SecretsRun {
            program: command.program.clone(),
            args: command.args.clone(),
            stdin: stdin
                .iter()
                .map(|piece| match piece {
                    wit::Piece::Plain(bytes) => Piece::Plain(Bytes(bytes.clone())),
                    wit::Piece::Secret(secret) => Piece::Secret(secret.secret_handle.clone()),
                })
                .collect(),
            variables: variables
                .iter()
                .map(|variable| Variable {
                    name: variable.name.clone(),
                    secret: variable.value.secret_handle.clone(),
                })
                .collect(),
        };
        let admitted = match self.given(&stdin, &variables)? {
            Ok(given) => self.admit(command, given, call)?,
            Err(handle) => {
                let missing = format!(
                    "`{}` is no secret of this call",
                    handle.chars().take(80).collect::<String>().escape_debug()
                );
                let denial =
                    Denial { capability: "secrets.run".into(), request: command.program.clone(), missing };
                Err(self.deny(&command, &[], denial, call)?)
            }
        };
        match admitted {
            Ok(allowed) => self.run_allowed(allowed).await,
            Err(error) => Ok(Err(error)),
        }
    }
}

impl State {
    /// The values for a program; a handle that means nothing is given back.
    fn given(
        &self,
        stdin: &[wit::Piece],
        variables: &[wit::Variable],
    ) -> wasmtime::Result<Result<Given, String>> {
        let mut given = Given::default();
        let secrets = &self.serving.secrets;
        // Whole from the beginning: a list that grows leaves copies behind, which are not wiped.
        let size = |piece: &wit::Piece| match piece {
            wit::Piece::Plain(bytes) => bytes.len(),
            wit::Piece::Secret(secret) => {
                secrets.of_handle(&secret.secret_handle).map_or(0, |(_, value)| value.len())
            }
        };
        let bytes = stdin.iter().map(size).sum();
        self.serving.check_size("input of a program", bytes)?;
        let mut input = Zeroizing::new(Vec::with_capacity(bytes));
        for piece in stdin {
            match piece {
                wit::Piece::Plain(bytes) => input.extend_from_slice(bytes),
                wit::Piece::Secret(secret) => {
                    let Some((name, value)) = secrets.of_handle(&secret.secret_handle) else {
                        return Ok(Err(secret.secret_handle.clone()));
                    };
                    input.extend_from_slice(value);
                    given.places.stdin = true;
                    given.words.push(format!("{name} on standard input"));
                }
            }
        }
        given.stdin = (!stdin.is_empty()).then_some(input);
        for variable in variables {
            let Some((name, value)) = secrets.of_handle(&variable.value.secret_handle) else {
                return Ok(Err(variable.value.secret_handle.clone()));
            };
            given.words.push(format!("{name} in {}", variable.name));
            given.places.variables.insert(variable.name.clone());
            // Files end with a newline that is no part of what they hold.
            let value = value.strip_suffix(b"\n").unwrap_or(value);
            given.environment.push((variable.name.clone(), Zeroizing::new(value.to_vec())));
        }
        Ok(Ok(given))
    }
}
