//! `lab-keeper ID`: takes a lab down when the process that started it was killed.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(id) = std::env::args().nth(1) else {
        eprintln!("error: this is started by a lab, with its id");
        return ExitCode::from(2);
    };
    match windlass_tests::lab::keeper::keep(&id) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
