use super::*;

#[test]
fn the_surface_is_sound() {
    command().debug_assert();
}

fn visit(command: &clap::Command, path: &str, look: &mut dyn FnMut(&str, &clap::Command)) {
    look(path, command);
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        visit(inner, &format!("{path} {}", inner.get_name()), look);
    }
}

#[test]
fn every_command_and_flag_is_explained() {
    visit(&command(), "windlass", &mut |path, command| {
        assert!(command.get_about().is_some(), "`{path}` has no help");
        let leaf = command.get_subcommands().next().is_none();
        let plain = ["windlass logout", "windlass whoami"].contains(&path);
        assert!(!leaf || plain || command.get_after_help().is_some(), "`{path}` has no example");
        for arg in command.get_arguments().filter(|arg| !["shell", "dir"].contains(&arg.get_id().as_str())) {
            assert!(arg.get_help().is_some(), "`{path}` does not explain `{}`", arg.get_id());
        }
    });
}

#[test]
fn examples_are_understood() {
    visit(&command(), "windlass", &mut |path, command| {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in text.lines().filter_map(|line| line.strip_prefix("  windlass ")) {
            let line = line.split(['<', '>', '|']).next().unwrap_or_default();
            let line = line.replace("sha256:…", &format!("sha256:{}", "a".repeat(64)));
            let mut words = vec!["windlass".to_owned()];
            for (index, part) in line.split('\'').enumerate() {
                match index % 2 {
                    1 => words.push(part.to_owned()),
                    _ => words.extend(part.split_whitespace().map(str::to_owned)),
                }
            }
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("the example of `{path}` is wrong: {words:?}\n{error}");
            }
        }
    });
}
